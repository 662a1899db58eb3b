//! Cedar policies in, decision tables and located diagnostics out.
#![forbid(unsafe_code)]
