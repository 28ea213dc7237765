//! Which file of a crate depends on which: paths in its source, followed through re-exports.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

use crate::graph::Graph;

type ModulePath = Vec<String>;

/// A module: its file, what it declares, and the names that its `use` declarations bring in.
struct Module {
    file: String,
    /// Name in this module, and the path that it stands for.
    uses: Vec<(String, ModulePath)>,
    /// All paths in its text that start with `crate`, `self` or `super`.
    paths: Vec<ModulePath>,
    macros: Vec<String>,
}

/// The Rust files of a crate's `src`.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.join("src")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            match entry.extension() {
                _ if entry.is_dir() => open.push(entry),
                Some(extension) if extension == "rs" => found.push(entry),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Which file of the crate in `folder` depends on which; files are named from `src` on.
pub fn file_graph(folder: &Path) -> Graph {
    let src = folder.join("src");
    let mut modules = BTreeMap::new();
    for root in ["lib.rs", "main.rs"] {
        let file = src.join(root);
        if file.is_file() {
            read_module(&src, &file, &src, Vec::new(), &mut modules);
            break;
        }
    }
    let mut graph = Graph::default();
    for (at, module) in &modules {
        graph.add_node(&module.file);
        for path in &module.paths {
            if let Some(file) = resolve(&modules, at, path, 0)
                && file != module.file
            {
                graph.add(&module.file, &file);
            }
        }
    }
    graph
}

/// Reads the file of a module, and those of its children that are not for tests.
fn read_module(
    src: &Path,
    file: &Path,
    children: &Path,
    at: ModulePath,
    modules: &mut BTreeMap<ModulePath, Module>,
) {
    let text = fs::read_to_string(file).unwrap();
    let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let name = file.strip_prefix(src).unwrap().to_string_lossy().replace('\\', "/");
    let mut module = Module { file: name, uses: Vec::new(), paths: Vec::new(), macros: Vec::new() };
    let mut found = Vec::new();
    for item in &syntax.items {
        match item {
            Item::Mod(child) if child.content.is_none() => {
                if !for_tests(&child.attrs) {
                    found.push(child.ident.to_string());
                }
            }
            item => Collector { module: &mut module }.visit_item(item),
        }
    }
    for child in found {
        let flat = children.join(format!("{child}.rs"));
        let folder = children.join(&child);
        let file = if flat.is_file() { flat } else { folder.join("mod.rs") };
        let at = at.iter().cloned().chain([child]).collect();
        if file.is_file() {
            read_module(src, &file, &folder, at, modules);
        }
    }
    modules.insert(at, module);
}

fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|argument| argument.is_ident("test"))
    })
}

struct Collector<'a> {
    module: &'a mut Module,
}

impl Collector<'_> {
    fn use_tree(&mut self, tree: &UseTree, path: ModulePath) {
        let with = |name: &syn::Ident| path.iter().cloned().chain([name.to_string()]).collect::<ModulePath>();
        match tree {
            UseTree::Path(step) => self.use_tree(&step.tree, with(&step.ident)),
            UseTree::Name(name) if name.ident == "self" => {
                self.bind(path.last().cloned().unwrap_or_default(), path);
            }
            UseTree::Name(name) => self.bind(name.ident.to_string(), with(&name.ident)),
            UseTree::Rename(rename) => self.bind(rename.rename.to_string(), with(&rename.ident)),
            UseTree::Glob(_) => self.bind("*".to_string(), path),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, path.clone())),
        }
    }

    fn bind(&mut self, name: String, path: ModulePath) {
        self.module.uses.push((name, path));
    }

    /// Paths in the tokens of a macro call: `crate::…` and `super::…`.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut i = 0;
        while i < tokens.len() {
            match &tokens[i] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(start) if start == "crate" || start == "super" => {
                    let mut path = vec![start.to_string()];
                    while let [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(name)] =
                        tokens.get(i + 1..i + 4).unwrap_or(&[])
                        && a.as_char() == ':'
                        && b.as_char() == ':'
                    {
                        path.push(name.to_string());
                        i += 3;
                    }
                    self.module.paths.push(path);
                }
                _ => {}
            }
            i += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Macro(item) => {
                if let Some(name) = &item.ident {
                    // What a definition names is resolved where it is used.
                    self.module.macros.push(name.to_string());
                    return;
                }
                &item.attrs
            }
            _ => &Vec::new(),
        };
        if !for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let from = self.module.uses.len();
        self.use_tree(&item.tree, Vec::new());
        // A re-export is no dependency of this file: who uses the name depends on the file that defines it.
        if matches!(item.vis, syn::Visibility::Inherited) {
            let paths: Vec<ModulePath> =
                self.module.uses[from..].iter().map(|(_, path)| path.clone()).collect();
            self.module.paths.extend(paths);
        }
    }

    // `pub(super)` names no item of the parent.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.module.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// The file that defines what `path` names, seen from module `at`; nothing for names of other crates.
fn resolve(
    modules: &BTreeMap<ModulePath, Module>,
    at: &[String],
    path: &[String],
    depth: usize,
) -> Option<String> {
    let mut here = at.to_vec();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("crate") => {
            here.clear();
            rest = &path[1..];
        }
        Some("self") => rest = &path[1..],
        Some("super") => {
            while rest.first().is_some_and(|step| step == "super") {
                here.pop()?;
                rest = &rest[1..];
            }
        }
        Some(first) => {
            let child: ModulePath = here.iter().cloned().chain([first.to_string()]).collect();
            let known =
                modules.contains_key(&child) || modules[&here].uses.iter().any(|(name, _)| name == first);
            // A single name without a path is defined here or in the prelude, or was brought in by a `use`, which counts.
            if !known || path.len() < 2 {
                return None;
            }
        }
        None => return None,
    }
    while let Some(step) = rest.first() {
        let child: ModulePath = here.iter().cloned().chain([step.clone()]).collect();
        if modules.contains_key(&child) {
            here = child;
            rest = &rest[1..];
            continue;
        }
        let module = &modules[&here];
        if let Some((_, target)) = module.uses.iter().find(|(name, _)| name == step)
            && depth < 8
        {
            let target: ModulePath = target.iter().chain(&rest[1..]).cloned().collect();
            return match target.first().map(String::as_str) {
                Some("crate" | "self" | "super") => resolve(modules, &here, &target, depth + 1),
                Some(first)
                    if modules.contains_key(
                        &here.iter().cloned().chain([first.to_string()]).collect::<Vec<_>>(),
                    ) =>
                {
                    resolve(modules, &here, &target, depth + 1)
                }
                _ => None,
            };
        }
        // A macro of the crate is found at its root, wherever it is defined.
        if here.is_empty() {
            let defines = |module: &&Module| module.macros.contains(step);
            if let Some(module) = modules.values().find(defines) {
                return Some(module.file.clone());
            }
        }
        break;
    }
    modules.get(&here).map(|module| module.file.clone())
}
