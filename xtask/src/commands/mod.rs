pub mod golden;
pub mod test;
