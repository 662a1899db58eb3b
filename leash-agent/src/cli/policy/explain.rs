//! `leash policy explain`.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgGroup, Args};
use leash_policy::{Request, Resource};

use super::Selection;
use super::load::{Loaded, load};
use crate::cli::{Global, USAGE};
use crate::words::{Out, Plain};

/// Say in words what decides an action on a resource
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("resource").required(true)))]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    selection: Selection,
    /// The action, for example FileRead
    action: String,
    /// A file by absolute path
    #[arg(long, group = "resource", value_name = "PATH")]
    file: Option<String>,
    /// A directory by absolute path
    #[arg(long, group = "resource", value_name = "PATH")]
    dir: Option<String>,
    /// An address with a port, for example `192.0.2.1:443` or `[2001:db8::1]:443`
    #[arg(long, group = "resource", value_name = "ADDRESS:PORT")]
    endpoint: Option<SocketAddr>,
    /// A Unix socket by absolute path, or @name
    #[arg(long, group = "resource", value_name = "PATH")]
    unix: Option<String>,
    /// A socket by family/protocol, for example netlink/route
    #[arg(long, group = "resource", value_name = "NAME")]
    socket: Option<String>,
    /// Protocol of the endpoint
    #[arg(long, default_value = "tcp")]
    protocol: String,
    /// Path of the acting program
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/env")]
    exe: String,
}

pub(super) fn run(args: ExplainArgs, global: Global) -> Result<ExitCode> {
    let resource = match (args.file, args.dir, args.endpoint, args.unix, args.socket) {
        (Some(path), ..) => Resource::File { path },
        (_, Some(path), ..) => Resource::Dir { path },
        (_, _, Some(endpoint), ..) => {
            let ip: IpAddr = endpoint.ip();
            Resource::Endpoint { ip, port: endpoint.port(), protocol: args.protocol }
        }
        (_, _, _, Some(path), _) => Resource::UnixSocket { path },
        (.., name) => Resource::Socket { name: name.unwrap_or_default() },
    };
    let request = match Request::new(&args.action, resource, args.exe) {
        Ok(request) => request,
        Err(fault) => {
            crate::cli::output::complain(&fault);
            return Ok(ExitCode::from(USAGE));
        }
    };
    match load(&args.selection.policies, &args.selection.subject, global) {
        Loaded::Refused(code) => Ok(code),
        Loaded::Policy(policy) => {
            Out::lock().say(&Plain::lines(policy.explain(&request).into_iter().map(Plain::line)))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
