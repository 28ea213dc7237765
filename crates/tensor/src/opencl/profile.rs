//! Execution times of kernels, as measured by the device.

/// Kernel times and operation counts since [`DeviceId::start_profile`](super::DeviceId::start_profile).
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// One entry for each kernel of each operation, sorted by the names of operation and kernel.
    pub kernels: Vec<KernelTime>,
    /// One entry for each operation that ran, sorted by name.
    pub ops: Vec<OpWork>,
}

/// Total time of one kernel, launched by one operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelTime {
    /// Name of the operation; for convolutions and their gradients also that of the algorithm, `conv2d [winograd]`.
    pub op: &'static str,
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Number of launches.
    pub launches: u64,
    /// Total execution time in seconds, by the device's clock.
    pub seconds: f64,
    /// Total size of the buffer arguments in bytes; a buffer counts once for each launch.
    pub bytes: u64,
}

/// Number of runs of one operation, and their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpWork {
    /// Name of the operation.
    pub op: &'static str,
    /// Number of runs.
    pub runs: u64,
    /// Total multiply-adds, as counted by [`Op::multiply_adds`](crate::Op::multiply_adds).
    pub multiply_adds: u64,
}
