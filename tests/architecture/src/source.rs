//! The Rust files of the workspace, parsed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use walkdir::WalkDir;

use crate::workspace::{crates, root};

/// One `.rs` file.
#[derive(Debug)]
pub struct Source {
    /// Below the checkout, with `/`.
    pub path: String,
    /// `crates/ids`, `rooms/item-model`, `services/gateway`, `tests/api`.
    pub home: String,
    /// Lines.
    pub lines: usize,
    /// `//!` stands at the head.
    pub introduced: bool,
    /// It is a test as a whole: below `tests`, or named `tests.rs` or `testing.rs`.
    pub is_test: bool,
    /// What is outside `#[cfg(test)]`, as tokens with one space between two.
    pub code: String,
    /// The same of all of it.
    pub all_code: String,
    /// Its functions, those of tests included.
    pub functions: Vec<Function>,
    /// `pub` items with and without a doc comment.
    pub public: Public,
    /// Panicking calls outside tests: `name:line`.
    pub panics: Vec<String>,
}

/// A function's place and size.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub line: usize,
    /// From its signature to its closing brace.
    pub lines: usize,
}

/// How much of a public surface is documented.
#[derive(Debug, Default, Clone, Copy)]
pub struct Public {
    /// `pub` functions, types, constants and traits; a field is part of its type.
    pub items: usize,
    /// Those with a doc comment.
    pub documented: usize,
}

/// Every Rust file of the floors on which the workspace has crates, parsed once per test binary.
pub fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let mut paths = Vec::new();
        let floors: BTreeSet<String> = crates().into_iter().map(|found| found.floor).collect();
        for floor in floors {
            let files = WalkDir::new(root().join(floor)).into_iter().map_while(Result::ok);
            let rust = files.filter(|file| file.path().extension().is_some_and(|ext| ext == "rs"));
            paths.extend(rust.map(walkdir::DirEntry::into_path));
        }
        paths.sort();
        paths.into_iter().map(read).collect()
    })
}

fn read(path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).expect("a file");
    let below = path.strip_prefix(root()).expect("a file of this checkout");
    let below = below.to_string_lossy().replace('\\', "/");
    parse(&below, &text)
}

/// Reads one file; `path` is its place below the checkout.
pub fn parse(path: &str, text: &str) -> Source {
    let file = syn::parse_file(text).unwrap_or_else(|err| panic!("{path}: {err}"));
    let mut seen = Seen::default();
    seen.visit_file(&file);
    let tokens = text.parse().unwrap_or_else(|err| panic!("{path}: {err}"));
    let place = Path::new(path);
    let in_tests = place.iter().skip(2).any(|part| part == "tests");
    Source {
        path: path.to_owned(),
        home: path.split('/').take(2).collect::<Vec<_>>().join("/"),
        lines: text.lines().count(),
        introduced: text.trim_start().starts_with("//!"),
        is_test: in_tests || path.starts_with("tests/") || {
            let name = place.file_name().and_then(std::ffi::OsStr::to_str);
            name.is_some_and(|name| name == "tests.rs" || name == "testing.rs")
        },
        code: spaced(&without_tests(&tokens)),
        all_code: spaced(&tokens),
        functions: seen.functions,
        public: seen.public,
        panics: seen.panics,
    }
}

/// Drops `#[cfg(test)] mod … { … }`, which is the last of a file's items by custom.
fn without_tests(tokens: &TokenStream) -> TokenStream {
    let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let at = (1..trees.len()).find(|at| {
        matches!(&trees[at - 1], TokenTree::Punct(punct) if punct.as_char() == '#')
            && trees[*at].to_string().replace(' ', "") == "[cfg(test)]"
            && matches!(trees.get(at + 1), Some(TokenTree::Ident(ident)) if ident == "mod")
    });
    trees[..at.map_or(trees.len(), |at| at - 1)].iter().cloned().collect()
}

/// Tokens in one form whatever the layout was: `crate :: store`, `env :: var`.
fn spaced(tokens: &TokenStream) -> String {
    let mut text = String::from(" ");
    push(tokens, &mut text);
    text
}

fn push(tokens: &TokenStream, text: &mut String) {
    for tree in tokens.clone() {
        match tree {
            TokenTree::Group(group) => push(&group.stream(), text),
            TokenTree::Ident(ident) => text.push_str(&format!("{ident} ")),
            // `::` is two tokens.
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                let joined = text.ends_with(':') || punct.spacing() == proc_macro2::Spacing::Joint;
                text.push(':');
                if !joined || text.ends_with("::") {
                    text.push(' ');
                }
            }
            TokenTree::Punct(punct) => text.push_str(&format!("{} ", punct.as_char())),
            // Words in a text are no code.
            TokenTree::Literal(_) => text.push_str("\"\" "),
        }
    }
}

#[derive(Default)]
struct Seen {
    functions: Vec<Function>,
    public: Public,
    panics: Vec<String>,
    /// How many `#[cfg(test)]` or `#[test]` items are around.
    tests: usize,
}

impl Seen {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.span().start().line;
        let lines = block.span().end().line + 1 - line;
        self.functions.push(Function { name: signature.ident.to_string(), line, lines });
    }

    fn public(&mut self, visibility: &syn::Visibility, attributes: &[syn::Attribute]) {
        if self.tests == 0 && matches!(visibility, syn::Visibility::Public(_)) {
            self.public.items += 1;
            let is_documented = attributes.iter().any(|attr| attr.path().is_ident("doc"));
            self.public.documented += usize::from(is_documented);
        }
    }

    fn panicking(&mut self, name: &syn::Ident) {
        if self.tests == 0 {
            self.panics.push(format!("{name} in line {}", name.span().start().line));
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let last = path.segments.last().map(|segment| segment.ident.to_string());
        let is_cfg_test = path.is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test");
        is_cfg_test || last.is_some_and(|last| last == "test" || last == "proptest")
    })
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item;
        let attributes: &[syn::Attribute] = match item {
            Item::Fn(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &[],
        };
        let entered = usize::from(is_test(attributes));
        self.tests += entered;
        match item {
            Item::Fn(item) => self.public(&item.vis, &item.attrs),
            Item::Struct(item) => self.public(&item.vis, &item.attrs),
            Item::Enum(item) => self.public(&item.vis, &item.attrs),
            Item::Trait(item) => self.public(&item.vis, &item.attrs),
            Item::Type(item) => self.public(&item.vis, &item.attrs),
            Item::Const(item) => self.public(&item.vis, &item.attrs),
            Item::Static(item) => self.public(&item.vis, &item.attrs),
            _ => {}
        }
        visit::visit_item(self, item);
        self.tests -= entered;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let entered = usize::from(is_test(&item.attrs));
        self.tests += entered;
        self.function(&item.sig, &item.block);
        self.public(&item.vis, &item.attrs);
        visit::visit_impl_item_fn(self, item);
        self.tests -= entered;
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        // A parser may have an `expect` of its own; the one that panics takes a text alone.
        let has_text_alone = call.args.len() == 1
            && matches!(&call.args[0], syn::Expr::Lit(lit) if matches!(lit.lit, syn::Lit::Str(_)));
        let name = call.method.to_string();
        if name == "unwrap" && call.args.is_empty() || name == "expect" && has_text_alone {
            self.panicking(&call.method);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.get_ident()
            && ["panic", "todo", "unimplemented", "dbg"].iter().any(|banned| name == banned)
        {
            self.panicking(name);
        }
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_texts_are_no_code() {
        let source = parse("crates/a/src/lib.rs", "//! tonic\nconst A: &str = \"tonic\"; // tonic");
        assert!(!source.code.contains("tonic") || source.code.contains("doc"), "{}", source.code);
        assert!(source.introduced);
    }

    #[test]
    fn a_test_module_counts_for_size_but_not_for_panics_or_words() {
        let text = "fn a() { b.unwrap(); }\n#[cfg(test)]\nmod tests {\n use sea_orm::x;\n \
                    #[test]\n fn c() { d.unwrap() }\n}";
        let source = parse("crates/a/src/lib.rs", text);
        assert_eq!(source.panics, ["unwrap in line 1"]);
        assert!(!source.code.contains("sea_orm") && source.all_code.contains("sea_orm :: x"));
        assert_eq!(source.functions.len(), 2);
    }

    #[test]
    fn documented_are_the_pub_items_with_a_comment() {
        let text = "/// Yes.\npub struct A { pub b: u8, c: u8 }\npub(crate) fn d() {}\n\
                    impl A { /// Yes.\n pub fn e(&self) {} }";
        let public = parse("crates/a/src/lib.rs", text).public;
        assert_eq!((public.items, public.documented), (2, 2));
    }

    #[test]
    fn a_function_is_as_long_as_from_signature_to_brace() {
        let source = parse("crates/a/src/lib.rs", "/// Doc.\n#[must_use]\nfn a()\n{\n}\n");
        assert_eq!((source.functions[0].line, source.functions[0].lines), (3, 3));
    }
}
