//! Debian kernels to test on: fetched once, unpacked and kept in the cache, a directory for each series.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{apt, paths, process};

/// The kernel series that the product is shown to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Debian 12, the oldest with BPF LSM in its default list that we support
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13
    #[value(name = "6.12")]
    V6_12,
    /// Debian unstable, the newest
    #[value(name = "7.2")]
    V7_2,
}

impl Series {
    pub(crate) const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7_2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::V7_2 => "sid",
        }
    }
}

/// The modules that the first stage loads, each with what it needs. One that the kernel has built in is fine.
const BOOT_MODULES: [&str; 6] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "loop"];

/// A kernel ready to boot.
pub(crate) struct Kernel {
    pub(crate) series: Series,
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// The directory that a booted system sees as `/lib/modules/<release>`.
    pub(crate) modules: PathBuf,
    /// Uncompressed modules of the first stage, in the order to load them.
    pub(crate) boot_modules: Vec<PathBuf>,
}

/// The kernel of a series, fetched if it isn't there yet.
pub(crate) fn prepare(series: Series) -> Result<Kernel> {
    let dir = paths::kernels().join(series.name());
    fs::create_dir_all(&dir).with_context(|| format!("couldn't create {}", dir.display()))?;
    // Two commands at once must not unpack into the same place; the second one finds all done.
    let lock = File::create(dir.join("lock"))?;
    lock.lock().with_context(|| format!("couldn't lock {}", dir.display()))?;
    if !dir.join("ready").exists() {
        eprintln!("fetching Debian's {} kernel", series.name());
        fetch(series, &dir).with_context(|| format!("couldn't prepare the {} kernel", series.name()))?;
        fs::write(dir.join("ready"), "")?;
    }
    load(series, &dir)
}

fn fetch(series: Series, dir: &Path) -> Result<()> {
    let (tree, lists) = (dir.join("root"), dir.join("apt"));
    for stale in [&tree, &lists, &dir.join("boot")] {
        if stale.exists() {
            fs::remove_dir_all(stale)?;
        }
    }
    let release = apt::Release::open(&apt::mirror()?, series.suite(), &lists)?;
    let prefix = format!("linux-image-{}.", series.name());
    let depends = release.dependencies("linux-image-amd64")?;
    let Some(image) = depends.iter().find(|name| name.starts_with(&prefix)) else {
        bail!("Debian {} has moved on from {}: its kernel is {depends:?}", series.suite(), series.name());
    };
    // Newer releases split the package: vmlinuz, modules and the list of what is built in come separately.
    let mut packages: Vec<String> = release.dependencies(image)?;
    packages.retain(|name| ["linux-base-", "linux-binary-", "linux-modules-"].iter().any(|part| name.starts_with(part)));
    if packages.is_empty() {
        packages.push(image.clone());
    }
    release.unpack(&packages, &tree)?;
    // Unsplit packages have /lib beside /usr; one place for both.
    let (old, new) = (tree.join("lib/modules"), tree.join("usr/lib/modules"));
    if old.is_dir() {
        fs::create_dir_all(tree.join("usr/lib"))?;
        fs::rename(&old, &new)?;
    }
    let version = only_entry(&new)?;
    process::run(Command::new("/sbin/depmod").arg("--basedir").arg(tree.join("usr")).arg(&version))?;
    unpack_boot_modules(&new.join(&version), &dir.join("boot"))?;
    fs::remove_dir_all(&lists)?;
    Ok(())
}

fn load(series: Series, dir: &Path) -> Result<Kernel> {
    let modules = dir.join("root/usr/lib/modules");
    let release = only_entry(&modules)?;
    let mut boot_modules: Vec<PathBuf> = fs::read_dir(dir.join("boot"))?.flatten().map(|entry| entry.path()).collect();
    boot_modules.sort();
    let image = dir.join("root/boot").join(format!("vmlinuz-{release}"));
    let image = if image.exists() { image } else { modules.join(&release).join("vmlinuz") };
    if !image.exists() {
        bail!("no kernel image in {}; remove that directory to fetch it again", dir.display());
    }
    Ok(Kernel { series, image, modules: modules.join(&release), release, boot_modules })
}

fn only_entry(dir: &Path) -> Result<String> {
    let entries = fs::read_dir(dir).with_context(|| format!("couldn't read {}", dir.display()))?;
    let names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        _ => bail!("expected one kernel in {}, found {names:?}", dir.display()),
    }
}

/// Writes `NN-name.ko` files, dependencies first.
fn unpack_boot_modules(modules: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let table = Dependencies::parse(&fs::read_to_string(modules.join("modules.dep"))?);
    let builtin = fs::read_to_string(modules.join("modules.builtin"))?;
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut order = Vec::new();
    for name in BOOT_MODULES {
        if !builtin.contains(name) {
            table.visit(name, &mut order)?;
        }
    }
    for (index, file) in order.iter().enumerate() {
        let source = modules.join(file);
        let to = into.join(format!("{index:02}-{}.ko", module_name(file)));
        let program = match source.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            _ => {
                fs::copy(&source, &to)?;
                continue;
            }
        };
        let mut decompress = Command::new(program);
        process::run(decompress.args(["-dc"]).arg(&source).stdout(File::create(&to)?))?;
    }
    Ok(())
}

/// `kernel/fs/9p/9p.ko.xz` → `9p`; dashes and underscores are the same to the kernel.
fn module_name(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

/// What `modules.dep` says: each module's file, and those of what it needs.
struct Dependencies(BTreeMap<String, (String, Vec<String>)>);

impl Dependencies {
    fn parse(text: &str) -> Self {
        let entries = text.lines().filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            Some((module_name(file), (file.to_owned(), needs.split_whitespace().map(module_name).collect())))
        });
        Self(entries.collect())
    }

    fn visit(&self, name: &str, order: &mut Vec<String>) -> Result<()> {
        let Some((file, needs)) = self.0.get(name) else { bail!("the kernel has no module `{name}`") };
        if order.contains(file) {
            return Ok(());
        }
        for need in needs {
            self.visit(need, order)?;
        }
        order.push(file.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_need_and_once() {
        let table = Dependencies::parse("k/9p.ko.xz: k/net-fs.ko.xz k/9pnet.ko.xz\nk/9pnet.ko.xz:\nk/net-fs.ko.xz:\n");
        let mut order = Vec::new();
        table.visit("9p", &mut order).unwrap();
        table.visit("net_fs", &mut order).unwrap();
        assert_eq!(order, ["k/net-fs.ko.xz", "k/9pnet.ko.xz", "k/9p.ko.xz"]);
        assert!(table.visit("absent", &mut order).is_err());
    }
}
