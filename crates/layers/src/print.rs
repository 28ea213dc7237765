//! Formats layers as PyTorch prints modules.

use neocog_autograd::Param;

use crate::layer::{Buffer, Counter, Layer, Visitor};

/// Formats a layer and all its children as PyTorch does.
pub fn pytorch(layer: &dyn Layer) -> String {
    let mut text = String::new();
    write_layer(&mut text, layer, 0);
    text
}

fn write_layer(text: &mut String, layer: &dyn Layer, depth: usize) {
    let mut children = Children(Vec::new());
    layer.visit(&mut children);
    text.push_str(layer.label());
    text.push('(');
    if children.0.is_empty() {
        text.push_str(&layer.arguments());
    } else {
        text.push('\n');
        for (name, child) in children.0 {
            text.push_str(&"  ".repeat(depth + 1));
            text.push_str(&format!("({name}): "));
            write_layer(text, child, depth + 1);
            text.push('\n');
        }
        text.push_str(&"  ".repeat(depth));
    }
    text.push(')');
}

/// The named children of a layer. A child without a name is replaced by its own children; without any, it corresponds to a
/// function call and not a module, and is not printed.
struct Children<'a>(Vec<(String, &'a dyn Layer)>);

impl<'a> Visitor<'a> for Children<'a> {
    fn param(&mut self, _name: &str, _param: &'a Param) {}
    fn buffer(&mut self, _name: &str, _buffer: &'a Buffer) {}
    fn counter(&mut self, _name: &str, _counter: &'a Counter) {}
    fn child(&mut self, name: Option<&str>, layer: &'a dyn Layer) {
        match name {
            Some(name) => self.0.push((name.to_string(), layer)),
            None => layer.visit(self),
        }
    }
}
