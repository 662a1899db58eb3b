//! What happened: the log of a session, and the summary at its end.
//!
//! This is the only writer. A [`record::Record`] is one line of the log (`docs/log.md` documents it), [`log::LogWriter`] appends it,
//! [`summary::Summary`] keeps the figures, and [`show`] reads a log back for people. Nothing here prints.

pub mod log;
pub mod notices;
pub mod record;
pub mod show;
pub mod summary;
pub mod time;
