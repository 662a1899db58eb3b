//! Where the running kernel keeps what the programs read: structure offsets and hook arguments.
//!
//! rustc emits no relocations for kernel structures, so userspace resolves every entry from the kernel's BTF and patches one
//! [`Layout`] into the object's read-only data before it is loaded. The verifier then sees constants.

/// One entry of [`OFFSETS`]: the structure, and the member's path in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The structure's name in BTF.
    pub structure: &'static str,
    /// Members separated by dots; members of anonymous structures and unions are named as in C. Empty: the structure's size.
    pub member: &'static str,
}

/// One entry of [`ARGUMENTS`]: the first parameter of a hook that points to a structure of the given name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The LSM hook.
    pub hook: &'static str,
    /// The structure that the parameter points to.
    pub structure: &'static str,
}

macro_rules! offsets {
    ($($name:ident: $structure:literal, $member:literal;)*) => {
        /// Byte offsets of structure members, in the order of [`OFFSETS`].
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = concat!("`", $structure, ".", $member, "`")] pub $name: u32,)*
        }

        /// What [`Offsets`] holds.
        pub const OFFSETS: &[Field] = &[$(Field { structure: $structure, member: $member },)*];
    };
}

macro_rules! arguments {
    ($($name:ident: $hook:literal, $structure:literal;)*) => {
        /// Positions of hook arguments, counted from 0, in the order of [`ARGUMENTS`].
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Arguments {
            $(#[doc = concat!("the `struct ", $structure, "` of `", $hook, "`")] pub $name: u32,)*
        }

        /// What [`Arguments`] holds.
        pub const ARGUMENTS: &[Argument] = &[$(Argument { hook: $hook, structure: $structure },)*];
    };
}

offsets! {
    file_mnt: "file", "f_path.mnt";
    file_dentry: "file", "f_path.dentry";
    file_mode: "file", "f_mode";
    file_flags: "file", "f_flags";
    file_inode: "file", "f_inode";
    path_mnt: "path", "mnt";
    path_dentry: "path", "dentry";
    dentry_parent: "dentry", "d_parent";
    dentry_name_len: "dentry", "d_name.len";
    dentry_name: "dentry", "d_name.name";
    dentry_inode: "dentry", "d_inode";
    dentry_sb: "dentry", "d_sb";
    inode_mode: "inode", "i_mode";
    inode_sb: "inode", "i_sb";
    sb_magic: "super_block", "s_magic";
    sb_flags: "super_block", "s_flags";
    vfsmount_root: "vfsmount", "mnt_root";
    mount_mnt: "mount", "mnt";
    mount_parent: "mount", "mnt_parent";
    mount_mountpoint: "mount", "mnt_mountpoint";
    mount_namespace: "mount", "mnt_ns";
    mount_children: "mount", "mnt_mounts";
    mount_child: "mount", "mnt_child";
    task_fs: "task_struct", "fs";
    task_parent: "task_struct", "real_parent";
    task_cred: "task_struct", "cred";
    task_real_cred: "task_struct", "real_cred";
    task_tgid: "task_struct", "tgid";
    fs_root_mnt: "fs_struct", "root.mnt";
    fs_root_dentry: "fs_struct", "root.dentry";
    bprm_file: "linux_binprm", "file";
    vma_file: "vm_area_struct", "vm_file";
    iattr_valid: "iattr", "ia_valid";
    socket_sk: "socket", "sk";
    sk_family: "sock", "__sk_common.skc_family";
    sk_port: "sock", "__sk_common.skc_num";
    sk_address4: "sock", "__sk_common.skc_rcv_saddr";
    sk_address6: "sock", "__sk_common.skc_v6_rcv_saddr";
    sk_type: "sock", "sk_type";
    sk_protocol: "sock", "sk_protocol";
    msg_name: "msghdr", "msg_name";
    msg_namelen: "msghdr", "msg_namelen";
    msg_flags: "msghdr", "msg_flags";
    msg_control: "msghdr", "msg_control";
    msg_controllen: "msghdr", "msg_controllen";
    unix_addr: "unix_sock", "addr";
    unix_mnt: "unix_sock", "path.mnt";
    unix_dentry: "unix_sock", "path.dentry";
    unix_address_len: "unix_address", "len";
    unix_address_name: "unix_address", "name";
}

arguments! {
    setattr_dentry: "inode_setattr", "dentry";
    setattr_iattr: "inode_setattr", "iattr";
    setxattr_dentry: "inode_setxattr", "dentry";
    removexattr_dentry: "inode_removexattr", "dentry";
}

/// All that the programs must be told about the running kernel, and the secrets of this load.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Address of `rename_lock`, whose sequence guards path walks.
    pub rename_lock: u64,
    /// Random key of the hash that folds repeats, so that no process can make its actions collide.
    pub fold_key: u64,
    /// Structure offsets.
    pub at: Offsets,
    /// Hook arguments.
    pub argument: Arguments,
    /// `backing_file.user_path`; 0 before 6.8, where a mapping keeps the path that it was made by.
    pub backing_user_path: u32,
    /// Keeps the layout without holes.
    pub reserved: u32,
}
