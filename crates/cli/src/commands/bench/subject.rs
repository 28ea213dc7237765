//! What `bench networks` measures: a registered network, or an ONNX model.

use std::path::{Path, PathBuf};

use neocog_bench::compare::Runner;
use neocog_bench::networks::{self, OpProfile, Options};
use neocog_bench::python::{NetworkJob, OnnxJob, OnnxRuntime, Python};
use neocog_bench::{Record, default_batch};
use neocog_models::{Model, find};
use neocog_tensor::{Device, Result};

use super::job::Job;
use super::onnx::OnnxFile;
use super::options::{RunArgs, ShapeArgs};
use super::peer::Peer;
use crate::commands::onnx_network::is_onnx;
use crate::output;

/// A network to measure.
pub enum Subject {
    Registered(Box<Model>),
    Onnx(OnnxFile),
}

impl Subject {
    /// Returns the network called `name`, or the ONNX model in that file.
    ///
    /// # Errors
    /// When the network is unknown, or the file cannot be read.
    pub fn find(name: &str, shape: &ShapeArgs) -> Result<Self> {
        if is_onnx(Path::new(name)) {
            return Ok(Subject::Onnx(OnnxFile::open(Path::new(name), shape)?));
        }
        Ok(Subject::Registered(Box::new(find(name)?)))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        match self {
            Subject::Registered(model) => model.name,
            Subject::Onnx(file) => &file.name,
        }
    }

    /// Returns the benchmark in a process of its own.
    pub fn job(&self, run: &RunArgs, shape: &ShapeArgs) -> Job {
        match self {
            Subject::Registered(model) => Job::new(run, model.name, default_batch(model)).shape(shape),
            Subject::Onnx(file) => {
                Job { predict_only: true, ..Job::new(run, &file.name, file.shape[0]).shape(shape) }
            }
        }
    }

    /// Measures in this process.
    ///
    /// # Errors
    /// When the network cannot be built or run.
    pub fn measure(&self, options: &Options, peak: Option<f64>) -> Result<Vec<Record>> {
        match self {
            Subject::Registered(model) => {
                output::memory_warning(&networks::memory_need(model, options)?);
                networks::bench_network(model, options, peak)
            }
            Subject::Onnx(file) => file.measure(options, peak),
        }
    }

    /// Profiles in this process.
    ///
    /// # Errors
    /// When the network cannot be built or run.
    pub fn profile(&self, options: &Options, peak: Option<f64>) -> Result<Vec<OpProfile>> {
        match self {
            Subject::Registered(model) => networks::profile_network(model, options, peak),
            Subject::Onnx(file) => file.profile(options, peak),
        }
    }

    /// Returns the benchmarks of one peer: PyTorch has one per memory format.
    ///
    /// # Errors
    /// When the network cannot be exported, or an ONNX model has another output there.
    pub fn runners(
        &self,
        peer: Peer,
        python: &str,
        job: &Job,
        folder: &Path,
    ) -> Result<Vec<Runner<'static>>> {
        let python = Python::new(python);
        let runtime = match peer {
            Peer::Cpu => {
                let job = Job { device: Device::Cpu, ..job.clone() };
                return Ok(vec![Box::new(move || job.measure())]);
            }
            Peer::Torch => return self.torch(&python, job),
            Peer::Onnxruntime => OnnxRuntime::OnnxRuntime,
            Peer::Openvino => OnnxRuntime::OpenVino,
            Peer::Tract => OnnxRuntime::Tract,
        };
        let onnx_job = match self {
            Subject::Registered(model) => {
                let job = network_job(model, job);
                let file: PathBuf = python.export_onnx(&job, folder)?;
                OnnxJob::exported(&job, file)
            }
            Subject::Onnx(file) => file.job(job, folder)?,
        };
        if let Some(difference) = python.onnx_difference(runtime, &onnx_job)? {
            file_note(runtime, difference);
        }
        Ok(vec![Box::new(move || python.onnx(runtime, &onnx_job))])
    }

    fn torch(&self, python: &Python, job: &Job) -> Result<Vec<Runner<'static>>> {
        let Subject::Registered(model) = self else {
            output::usage_error(
                "--against torch is for registered networks; an ONNX model is compared with onnxruntime, openvino and tract",
            );
        };
        let runner = |channels_last| {
            let (python, job) = (python.clone(), network_job(model, job));
            Box::new(move || python.torch(&job, channels_last)) as Runner<'static>
        };
        Ok([false, true].map(runner).into())
    }
}

fn file_note(runtime: OnnxRuntime, difference: f64) {
    output::note(format_args!(
        "{}: the output differs by at most {difference:.1e} of its greatest magnitude",
        runtime.name()
    ));
}

fn network_job(model: &Model, job: &Job) -> NetworkJob {
    NetworkJob::new(*model, job.batch).threads(job.threads).budget(job.budget())
}
