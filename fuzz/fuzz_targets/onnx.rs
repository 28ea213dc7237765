#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(target) = neocog_tests::fuzz::target("onnx") {
        (target.run)(bytes);
    }
});
