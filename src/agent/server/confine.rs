//! Confines the agent's process: on Linux to the files that it needs (Landlock), without other programs, listeners and kinds of
//! sockets (Landlock and seccomp). What it still needs from outside, its broker does.

use std::path::PathBuf;

use crate::agent::protocol::Confinement;

/// What the agent may use.
#[derive(Debug, Default)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux confines it"))]
pub struct Places {
    /// The directories whose files it reads and changes.
    pub writable: Vec<PathBuf>,
    /// The files and directories that it reads.
    pub readable: Vec<PathBuf>,
    /// Whether it can change the configuration, and so have its broker use any file.
    pub is_config_writable: bool,
    /// Whether it needs sockets of other processes that are not in the file system.
    pub has_abstract_sockets: bool,
}

/// Confines this process and its future threads, as far as the system can. Must be called before there are other threads.
#[cfg(not(target_os = "linux"))]
pub fn confine(_places: &Places) -> Confinement {
    Confinement::of(&[])
}

/// Restricts this process and its children in what the sandbox of a command cannot restrict.
///
/// # Errors
/// If the system cannot.
#[cfg(not(target_os = "linux"))]
pub fn confine_command() -> std::io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
pub use linux::{confine, confine_command};

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr as _,
        RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
    };
    use nix::libc;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    use super::{Confinement, Places};
    use crate::agent::protocol::Restriction;

    /// What the C library, its name service and time zones, the certificates and the process itself are read from.
    const SYSTEM: [&str; 19] = [
        "/etc",
        "/usr",
        "/lib",
        "/lib32",
        "/lib64",
        "/nix/store",
        "/gnu/store",
        "/proc",
        "/sys/devices/system/cpu",
        "/dev/random",
        "/dev/urandom",
        "/run/systemd/resolve",
        "/run/resolvconf",
        "/run/NetworkManager",
        "/run/nscd",
        "/var/run/nscd",
        "/var/lib/sss",
        "/var/lib/ca-certificates",
        "/run/secrets/kubernetes.io",
    ];

    /// Files that may be links into other directories, which replace what they lead to.
    const LINKS: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/localtime"];

    /// System calls and requests that the library does not name for each architecture.
    const FCHMODAT2: i64 = 452;
    const SETXATTRAT: i64 = 463;
    const REMOVEXATTRAT: i64 = 466;
    const FILE_SETATTR: i64 = 469;
    const TIOCSTI: i32 = 0x5412;
    const TIOCLINUX: i32 = 0x541c;

    /// Forms of refused calls that only the oldest architectures have.
    #[cfg(target_arch = "x86_64")]
    const OF_X86: [i64; 3] = [libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown];
    #[cfg(not(target_arch = "x86_64"))]
    const OF_X86: [i64; 0] = [];

    /// What the numbers of calls of the x32 ABI have besides.
    const X32_BIT: i64 = 0x4000_0000;

    /// The numbers of calls that x32 has in a form of its own. Old kernels also accept them without the bit.
    #[cfg(target_arch = "x86_64")]
    const X32: [(i64, i64); 7] = [
        (libc::SYS_ioctl, 514),
        (libc::SYS_execve, 520),
        (libc::SYS_ptrace, 521),
        (libc::SYS_kexec_load, 528),
        (libc::SYS_process_vm_readv, 539),
        (libc::SYS_process_vm_writev, 540),
        (libc::SYS_execveat, 545),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const X32: [(i64, i64); 0] = [];

    /// Confines this process and its future threads, as far as the kernel can. Must be called before there are other threads.
    pub fn confine(places: &Places) -> Confinement {
        let mut refused = Vec::new();
        match restrict_files(places) {
            Ok(status) => refused.extend(refused_by(&status)),
            Err(error) => tracing::warn!("the agent is not confined by Landlock: {error}"),
        }
        match filter().and_then(|program| seccompiler::apply_filter(&program)) {
            Ok(()) => refused.extend([Restriction::Programs, Restriction::Sockets, Restriction::Listeners]),
            Err(error) => tracing::warn!("the agent is not confined by seccomp: {error}"),
        }
        if places.is_config_writable {
            refused.retain(|restriction| *restriction != Restriction::Files);
        }
        Confinement::of(&refused)
    }

    /// Denies this process and its children what namespaces do not isolate: sockets that lead outside (such as vsock), keys in the
    /// kernel, and terminal input.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn confine_command() -> std::io::Result<()> {
        // io_uring opens sockets without the filtered calls.
        let refused = [libc::SYS_io_uring_setup, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl];
        let program = other_family().and_then(|family| compiled(&refused, vec![SeccompRule::new(family)?]));
        program.and_then(|program| seccompiler::apply_filter(&program)).map_err(std::io::Error::other)
    }

    /// Returns what Landlock refuses now. A newer version of it refuses more.
    fn refused_by(status: &RestrictionStatus) -> Vec<Restriction> {
        let LandlockStatus::Available { effective_abi, .. } = status.landlock else { return Vec::new() };
        if status.ruleset == RulesetStatus::NotEnforced {
            return Vec::new();
        }
        let since = [(ABI::V1, Restriction::Files), (ABI::V6, Restriction::Signals)];
        since.into_iter().filter(|(abi, _)| effective_abi >= *abi).map(|(_, restriction)| restriction).collect()
    }

    fn restrict_files(places: &Places) -> Result<RestrictionStatus, RulesetError> {
        // Truncation (version 3) and devices (5) included; the crate leaves out what the kernel does not have.
        let abi = ABI::V6;
        let change = AccessFs::from_all(abi) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
        let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        let scope = if places.has_abstract_sockets { Scope::Signal.into() } else { Scope::from_all(abi) };
        let linked = LINKS.iter().filter_map(|link| Some(std::fs::canonicalize(link).ok()?.parent()?.to_owned()));
        Ruleset::default()
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::BindTcp)?
            .scope(scope)?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(linked, read))?
            .add_rules(path_beneath_rules(&places.readable, read))?
            .add_rules(path_beneath_rules(&places.writable, change))?
            .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
            .restrict_self()
    }

    /// Returns the filter of system calls. Landlock does not refuse the execution of a file that exists only in memory (memfd),
    /// nor any socket but TCP, so seccomp does. It also refuses what would get around both, or would read other processes.
    fn filter() -> Result<BpfProgram, seccompiler::Error> {
        let refused = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
            // It opens files and sockets without the calls that are filtered.
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_open_by_handle_at,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_chroot,
            libc::SYS_pivot_root,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            // Landlock refuses no listener whose port the system chooses, nor one of another protocol than TCP. The agent
            // listens already.
            libc::SYS_listen,
            // It refuses no change of modes, owners and attributes.
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            FCHMODAT2,
            libc::SYS_fchown,
            libc::SYS_fchownat,
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            SETXATTRAT,
            libc::SYS_removexattr,
            libc::SYS_lremovexattr,
            libc::SYS_fremovexattr,
            REMOVEXATTRAT,
            FILE_SETATTR,
        ];
        let refused = [&refused[..], &OF_X86].concat();
        // Of the four, netlink alone has raw sockets for every user.
        let raw = [
            condition(1, SeccompCmpOp::MaskedEq(0xf), libc::SOCK_RAW)?,
            condition(0, SeccompCmpOp::Ne, libc::AF_NETLINK)?,
        ];
        let not_routes =
            [condition(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?, condition(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE)?];
        let conditions = [other_family()?, raw.into(), not_routes.into()];
        compiled(&refused, conditions.into_iter().map(SeccompRule::new).collect::<Result<_, _>>()?)
    }

    /// Returns the conditions of a socket that is of none of the usual families. The C library sorts addresses with the help of
    /// netlink.
    fn other_family() -> Result<Vec<SeccompCondition>, seccompiler::Error> {
        let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
        Ok(families.iter().map(|family| condition(0, SeccompCmpOp::Ne, *family)).collect::<Result<_, _>>()?)
    }

    /// Returns the filter that refuses these calls, these sockets, and terminal input, which a shell would run.
    fn compiled(refused: &[i64], sockets: Vec<SeccompRule>) -> Result<BpfProgram, seccompiler::Error> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = refused.iter().map(|call| (*call, Vec::new())).collect();
        let of_terminals = [TIOCSTI, TIOCLINUX].map(|request| condition(1, SeccompCmpOp::Eq, request));
        let of_terminals = of_terminals.into_iter().map(|request| Ok(SeccompRule::new(vec![request?])?));
        rules.insert(libc::SYS_ioctl, of_terminals.collect::<Result<_, seccompiler::Error>>()?);
        rules.insert(libc::SYS_socket, sockets);
        for (call, other) in X32 {
            let same = rules.get(&call).cloned().unwrap_or_default();
            rules.extend([(other, same.clone()), (other | X32_BIT, same)]);
        }
        if cfg!(target_arch = "x86_64") {
            let of_x32: Vec<_> = rules.iter().map(|(call, rules)| (call | X32_BIT, rules.clone())).collect();
            rules.extend(of_x32);
        }
        let refuse = SeccompAction::Errno(libc::EACCES.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
        Ok(filter.try_into()?)
    }

    /// Returns the condition that an argument of the call compares like this with a value.
    fn condition(
        argument: u8,
        operator: SeccompCmpOp,
        value: i32,
    ) -> Result<SeccompCondition, seccompiler::BackendError> {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
    }
}
