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
    fragments: &'static [(&'static str, &'static str)],
}

macro_rules! fragments {
    ($($file:literal),* $(,)?) => {
        &[$((concat!("profiles/", $file), include_str!(concat!("../../policies/profiles/", $file)))),*]
    };
}

/// All profiles; the first is the default.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "workspace",
        summary: "system readable, workspace and /tmp writable, secrets unreadable, public internet on 53/80/443",
        agent: None,
        fragments: fragments![
            "system.cedar",
            "home.cedar",
            "caches.cedar",
            "workspace-write.cedar",
            "traps.cedar",
            "secrets.cedar",
            "network.cedar"
        ],
    },
    Profile {
        name: "readonly",
        summary: "like workspace, but only /tmp can be written",
        agent: None,
        fragments: fragments![
            "system.cedar",
            "home.cedar",
            "workspace-read.cedar",
            "traps.cedar",
            "secrets.cedar",
            "network.cedar"
        ],
    },
    Profile {
        name: "no-network",
        summary: "like workspace, but without any internet endpoint",
        agent: None,
        fragments: fragments![
            "system.cedar",
            "home.cedar",
            "caches.cedar",
            "workspace-write.cedar",
            "traps.cedar",
            "secrets.cedar",
            "no-network.cedar"
        ],
    },
    agent_profile("codex", "workspace, and the state of OpenAI Codex CLI", AGENT_CODEX),
    agent_profile("gemini", "workspace, and the state of Gemini CLI", AGENT_GEMINI),
    agent_profile("aider", "workspace, and the state of aider", AGENT_AIDER),
    agent_profile("mini-swe-agent", "workspace, and the state of mini-swe-agent", AGENT_MINI),
];

type Fragments = &'static [(&'static str, &'static str)];

macro_rules! agent_fragments {
    ($file:literal) => {
        fragments![
            "system.cedar",
            "home.cedar",
            "caches.cedar",
            "workspace-write.cedar",
            "traps.cedar",
            "secrets.cedar",
            "network.cedar",
            $file
        ]
    };
}

const AGENT_CODEX: Fragments = agent_fragments!("agents/codex.cedar");
const AGENT_GEMINI: Fragments = agent_fragments!("agents/gemini.cedar");
const AGENT_AIDER: Fragments = agent_fragments!("agents/aider.cedar");
const AGENT_MINI: Fragments = agent_fragments!("agents/mini-swe-agent.cedar");

const fn agent_profile(name: &'static str, summary: &'static str, fragments: Fragments) -> Profile {
    Profile { name, summary, agent: Some(name), fragments }
}

/// The profile of this name.
pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

impl Profile {
    /// The profile's policies, to be compiled together.
    pub fn sources(&self) -> Vec<Source> {
        self.fragments.iter().map(|(name, text)| Source { name: (*name).to_owned(), text: (*text).to_owned() }).collect()
    }
}
