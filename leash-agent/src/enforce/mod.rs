//! Backends: they install a compiled policy for a session and deliver what the kernel decided.
