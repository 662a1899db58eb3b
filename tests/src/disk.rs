//! A disk of its own below the ground: what tmpfs has not on every kernel, and a mount to be crossed by path.

use crate::ground;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A mounted ext4 file system; unmounted when dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Makes a file system and mounts it there.
    pub fn mount(at: &str) -> Self {
        for module in ["loop", "ext4"] {
            ground::run("modprobe", &[module]);
        }
        let at = ground::fresh(at);
        let image = Path::new(ground::ASIDE).join(format!("{}.img", at.file_name().unwrap().display()));
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let words = (image.to_str().unwrap(), at.to_str().unwrap());
        ground::run("mkfs.ext4", &["-q", "-F", words.0]);
        ground::run("mount", &["-o", "loop", words.0, words.1]);
        Self(at)
    }

    /// The same in a second place.
    pub fn again(&self, at: &str) -> Self {
        let at = ground::fresh(at);
        ground::run("mount", &["--bind", self.0.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at)
    }
}

/// An overlay whose layers have no path any more, as a machine's root may be one; unmounted when dropped.
pub struct Overlay(PathBuf);

impl Overlay {
    /// Mounts one there; `fill` makes what the lower layer holds.
    pub fn mount(at: &str, fill: impl FnOnce(&Path)) -> Self {
        let at = ground::fresh(at);
        let layers = ground::fresh(at.with_extension("layers"));
        let text = |path: &Path| path.display().to_string();
        ground::run("mount", &["-t", "tmpfs", "leash-tests", &text(&layers)]);
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| ground::fresh(layers.join(name)));
        fill(&lower);
        let options = format!("lowerdir={},upperdir={},workdir={}", text(&lower), text(&upper), text(&work));
        ground::run("mount", &["-t", "overlay", "-o", &options, "leash-tests", &text(&at)]);
        ground::run("umount", &["--lazy", &text(&layers)]);
        Self(at)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        ground::run("umount", &[self.0.to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        ground::run("umount", &[self.0.to_str().unwrap()]);
    }
}
