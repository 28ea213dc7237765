//! Writes the seeds of all targets to `corpus/TARGET`: run it in this folder before the first `cargo fuzz run`.

fn main() -> std::io::Result<()> {
    for target in neocog_tests::fuzz::TARGETS {
        let folder = std::path::Path::new("corpus").join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (i, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}
