//! Times the compiler on generated policies: `cargo run --release -p leash-policy --example compile_times [FAMILY [COUNT]]`.

use std::fmt::Write as _;
use std::time::Instant;

use leash_policy::{Principal, Source, Variables, compile};

/// One policy of a family.
type Family = (&'static str, fn(usize) -> String);

const FAMILIES: [Family; 9] = [
    ("equal", |i| {
        format!("permit(principal, action == Action::\"FileRead\", resource == File::\"/srv/data{}/file{i}.txt\");", i % 97)
    }),
    ("within", |i| {
        format!(
            "forbid(principal, action in Action::\"FileModify\", resource in Dir::\"/srv/team{}/project{i}/secret\");",
            i % 97
        )
    }),
    ("mixed", |i| match i % 100 {
        0 => format!(
            "forbid(principal, action in Action::\"FileOpen\", resource) when {{ resource.path like \"/srv/app{i}/*/key{i}.pem\" }};"
        ),
        1..50 => {
            format!("permit(principal, action in Action::\"FileOpen\", resource in Dir::\"/srv/team{}/project{i}\");", i % 97)
        }
        _ => format!("permit(principal, action == Action::\"FileRead\", resource == File::\"/srv/data{}/file{i}.txt\");", i % 97),
    }),
    ("path-and-exe", |i| {
        format!(
            "permit(principal, action in Action::\"FileOpen\", resource in Dir::\"/srv/d{i}\") when {{ context.exe == \"/usr/bin/tool{i}\" }};"
        )
    }),
    ("under-one", |i| {
        format!(
            "permit(principal, action in Action::\"FileOpen\", resource in Dir::\"/home/user\") when {{ resource.path like \"/home/user/p{i}/*\" }};"
        )
    }),
    ("names", |i| {
        format!("forbid(principal, action in Action::\"FileOpen\", resource) when {{ resource.name == \"name{i}.key\" }};")
    }),
    ("suffixes", |i| {
        format!("forbid(principal, action == Action::\"FileRead\", resource) when {{ resource.name like \"*.ext{i}\" }};")
    }),
    ("cidr-and-port", |i| {
        let (a, b) = (i / 250 + 1, i % 250);
        format!(
            "permit(principal, action == Action::\"NetworkConnect\", resource) when {{ resource is Endpoint && resource.ip.isInRange(ip(\"10.{a}.{b}.0/24\")) && resource.port == {} }};",
            1000 + i
        )
    }),
    ("any-action", |i| {
        format!(
            "permit(principal, action, resource) when {{ resource is File && resource.path like \"/opt/v{i}/*\" && !(resource.name like \"*.bak\") }};"
        )
    }),
];

/// CPU time of this process so far: fields 14 and 15 of `/proc/self/stat`, in hundredths of a second (proc_pid_stat(5)).
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

fn main() {
    let mut args = std::env::args().skip(1);
    let only = args.next().filter(|family| family != "all");
    let count: usize = args.next().and_then(|count| count.parse().ok()).unwrap_or(10_000);
    for (name, policy) in FAMILIES.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let count = if name == "suffixes" { count.min(200) } else { count };
        let text = (0..count).fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "{}", policy(i));
            text
        });
        let sources = [Source { name: "generated.cedar".to_owned(), text }];
        let (start, cpu) = (Instant::now(), cpu_ms());
        match compile(&sources, &Variables::default(), &Principal::default()) {
            Ok(compiled) => println!(
                "{name:14} {count:6} policies {:6} ms, {:6} ms of CPU  {:?}",
                start.elapsed().as_millis(),
                cpu_ms() - cpu,
                compiled.stats()
            ),
            Err(faults) => println!(
                "{name:14} {count:6} policies: {faults}: {}",
                faults.iter().take(1).map(ToString::to_string).collect::<String>()
            ),
        }
    }
}
