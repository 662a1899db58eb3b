//! Figures that need no BPF LSM: the table decision under this machine's JIT, and the compiler.
