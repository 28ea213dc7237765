pub mod golden;
pub mod test;
pub mod torture;
