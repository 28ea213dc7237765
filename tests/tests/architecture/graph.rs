//! A directed graph of names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Names and what each depends on.
#[derive(Debug, Default)]
pub struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    pub fn add_node(&mut self, name: &str) {
        self.0.entry(name.to_string()).or_default();
    }

    pub fn add(&mut self, from: &str, to: &str) {
        self.add_node(to);
        self.0.entry(from.to_string()).or_default().insert(to.to_string());
    }

    pub fn arrows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(from, to)| to.iter().map(move |to| (from.as_str(), to.as_str())))
    }

    /// All that `name` depends on, directly or not.
    pub fn below(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![name.to_string()];
        while let Some(name) = open.pop() {
            for next in self.0.get(&name).into_iter().flatten() {
                if found.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        found
    }

    /// The sets of names that depend on each other in a circle.
    pub fn circles(&self) -> Vec<BTreeSet<String>> {
        let below: BTreeMap<&str, BTreeSet<String>> =
            self.0.keys().map(|name| (name.as_str(), self.below(name))).collect();
        let mut circles = BTreeSet::new();
        for (name, reached) in &below {
            if reached.contains(*name) {
                let circle = reached.iter().filter(|other| below[other.as_str()].contains(*name)).cloned();
                circles.insert(circle.collect::<BTreeSet<_>>());
            }
        }
        circles.into_iter().collect()
    }

    /// The arrows within a set of names.
    pub fn describe(&self, names: &BTreeSet<String>) -> String {
        let within = self.arrows().filter(|(from, to)| names.contains(*from) && names.contains(*to));
        within.map(|(from, to)| format!("{from} -> {to}")).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, to) in &self.0 {
            writeln!(f, "{from} -> {}", to.iter().cloned().collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

#[test]
fn circles_are_found() {
    let mut graph = Graph::default();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")] {
        graph.add(from, to);
    }
    assert_eq!(graph.circles(), [BTreeSet::from(["b".to_string(), "c".to_string()])]);
    assert_eq!(graph.describe(&graph.circles()[0]), "b -> c, c -> b");
}
