//! What networks are compared with.

/// An implementation to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// PyTorch, eager mode, in both memory formats.
    Torch,
    /// ONNX Runtime, prediction only.
    Onnxruntime,
    /// OpenVINO in single precision, prediction only.
    Openvino,
    /// tract on one thread, prediction only.
    Tract,
    /// This library on the CPU.
    Cpu,
}
