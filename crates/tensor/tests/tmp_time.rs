use neocog_tensor::cases::registered_ops;
use neocog_tensor::*;
#[test]
fn time() {
    println!("{:?} threads {}", instruction_set(), rayon::current_num_threads());
    for e in registered_ops() {
        if !(e.name.contains("pool") || e.name == "dropout") {
            continue;
        }
        for case in (e.cases)() {
            if !case.bench {
                continue;
            }
            let inputs: Vec<Tensor> = case
                .inputs
                .iter()
                .enumerate()
                .map(|(i, x)| Tensor::from_f32(x.shape, &x.make(i as u64 + 1), &Device::Cpu).unwrap())
                .collect();
            let refs: Vec<&Tensor> = inputs.iter().collect();
            let mut t = vec![];
            for _ in 0..60 {
                let s = std::time::Instant::now();
                let out = run(&*case.op, &refs).unwrap();
                t.push(s.elapsed().as_secs_f64() * 1e3);
                drop(out);
            }
            t.sort_by(f64::total_cmp);
            println!("{:26} {:30} min {:.3} ms  quartile {:.3} ms", e.name, case.name, t[0], t[15]);
        }
    }
}
