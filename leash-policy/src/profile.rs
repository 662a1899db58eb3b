//! The ready profiles: which fragments of `policies/profiles/` each is made of.

use crate::Source;

/// A ready profile.
#[derive(Debug)]
pub struct Profile {
    /// What `--profile` takes.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// The agent's name in policies where the caller gives none: profiles of one agent are about that agent.
    pub agent: Option<&'static str>,
    fragments: &'static [&'static [Fragment]],
}

type Fragment = (&'static str, &'static str);

macro_rules! fragment {
    ($file:literal) => {
        (concat!("profiles/", $file), include_str!(concat!("../../policies/profiles/", $file)))
    };
}

/// Reading, and what no profile may do.
const COMMON: &[Fragment] =
    &[fragment!("system.cedar"), fragment!("home.cedar"), fragment!("traps.cedar"), fragment!("secrets.cedar")];
/// Writing to the workspace, and what builds in it need.
const WORK: &[Fragment] = &[fragment!("caches.cedar"), fragment!("workspace-write.cedar"), fragment!("workspace-notices.cedar")];
const LOOK: &[Fragment] = &[fragment!("workspace-read.cedar")];
const INTERNET: &[Fragment] = &[fragment!("network.cedar")];
const NO_INTERNET: &[Fragment] = &[fragment!("no-network.cedar")];

/// All profiles; the first is the default.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "workspace",
        summary: "system readable, workspace and /tmp writable, secrets unreadable, public internet on 53/80/443",
        agent: None,
        fragments: &[COMMON, WORK, INTERNET],
    },
    Profile {
        name: "readonly",
        summary: "like workspace, but only /tmp can be written",
        agent: None,
        fragments: &[COMMON, LOOK, INTERNET],
    },
    Profile {
        name: "no-network",
        summary: "like workspace, but without any internet endpoint",
        agent: None,
        fragments: &[COMMON, WORK, NO_INTERNET],
    },
    agent_profile(
        "codex",
        "workspace, and the state of OpenAI Codex CLI",
        &[COMMON, WORK, INTERNET, &[fragment!("agents/codex.cedar")]],
    ),
    agent_profile(
        "gemini",
        "workspace, and the state of Gemini CLI",
        &[COMMON, WORK, INTERNET, &[fragment!("agents/gemini.cedar")]],
    ),
    agent_profile("aider", "workspace, and the state of aider", &[COMMON, WORK, INTERNET, &[fragment!("agents/aider.cedar")]]),
    agent_profile(
        "mini-swe-agent",
        "workspace, and the state of mini-swe-agent",
        &[COMMON, WORK, INTERNET, &[fragment!("agents/mini-swe-agent.cedar")]],
    ),
];

const fn agent_profile(name: &'static str, summary: &'static str, fragments: &'static [&'static [Fragment]]) -> Profile {
    Profile { name, summary, agent: Some(name), fragments }
}

/// The profile of this name.
pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

impl Profile {
    /// The profile's policies, to be compiled together.
    pub fn sources(&self) -> Vec<Source> {
        self.fragments
            .iter()
            .copied()
            .flatten()
            .map(|(name, text)| Source { name: (*name).to_owned(), text: (*text).to_owned() })
            .collect()
    }
}
