//! Finding the route of a path: literals before variables, and an encoded slash
//! never ends a segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::percent;
use crate::table::Route;
use crate::template::Segment;

/// A route with what the path binds.
#[derive(Debug, Clone)]
pub struct MatchedRoute {
    /// The route.
    pub route: Arc<Route>,
    /// The text of each of the template's variables, in order.
    pub variables: Vec<String>,
}

/// Why no route answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// No template matches the path.
    NotFound,
    /// One does, under these methods.
    MethodNotAllowed(Vec<Method>),
    /// A `%` escape in the path is cut, or is not UTF-8.
    MalformedPath,
}

/// The tree of all templates.
#[derive(Debug, Default)]
pub struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    one: Option<Box<Node>>,
    many: Vec<Arc<Route>>,
    ends: Vec<Arc<Route>>,
}

/// One segment of a requested path.
struct Part {
    /// Fully decoded.
    text: String,
    /// Decoded but for `%2F`.
    with_slashes_encoded: String,
}

impl Tree {
    /// Adds a route; gives back the one that has the same template and method
    /// if there is one.
    pub fn insert(&mut self, route: &Arc<Route>) -> Result<(), Arc<Route>> {
        let mut node = &mut self.root;
        let mut ends_in_many = false;
        for segment in route.template().segments() {
            match segment {
                Segment::Literal(literal) => {
                    node = node.literals.entry(literal.clone()).or_default()
                }
                Segment::One => node = node.one.get_or_insert_default(),
                Segment::Many => ends_in_many = true,
            }
        }
        let routes = if ends_in_many { &mut node.many } else { &mut node.ends };
        let same = |other: &&Arc<Route>| {
            other.template().verb() == route.template().verb()
                && other.http_method() == route.http_method()
        };
        if let Some(other) = routes.iter().find(same) {
            return Err(Arc::clone(other));
        }
        routes.push(Arc::clone(route));
        Ok(())
    }

    /// The route of a method and an undecoded path.
    pub fn find(&self, method: &Method, path: &str) -> Result<MatchedRoute, Miss> {
        let raw: Vec<&str> = path.strip_prefix('/').ok_or(Miss::NotFound)?.split('/').collect();
        let mut search = Search { method, allowed: Vec::new() };
        // A verb is split off the undecoded text: `%3A` is part of a name.
        if let Some((name, verb)) = raw.last().and_then(|last| last.rsplit_once(':')) {
            let mut parts = parts_of(&raw[..raw.len() - 1])?;
            parts.push(part_of(name)?);
            if let Some(route) = search.walk(&self.root, &parts, Some(verb)) {
                return Ok(matched(route, &parts));
            }
        }
        let parts = parts_of(&raw)?;
        if let Some(route) = search.walk(&self.root, &parts, None) {
            return Ok(matched(route, &parts));
        }
        if search.allowed.is_empty() {
            Err(Miss::NotFound)
        } else {
            Err(Miss::MethodNotAllowed(search.allowed))
        }
    }
}

struct Search<'a> {
    method: &'a Method,
    allowed: Vec<Method>,
}

impl Search<'_> {
    fn walk<'n>(
        &mut self,
        node: &'n Node,
        parts: &[Part],
        verb: Option<&str>,
    ) -> Option<&'n Arc<Route>> {
        let Some((part, rest)) = parts.split_first() else {
            return self.choose(&node.ends, verb).or_else(|| self.choose(&node.many, verb));
        };
        if let Some(next) = node.literals.get(&part.text)
            && let Some(route) = self.walk(next, rest, verb)
        {
            return Some(route);
        }
        if let Some(next) = &node.one
            && !part.text.is_empty()
            && let Some(route) = self.walk(next, rest, verb)
        {
            return Some(route);
        }
        self.choose(&node.many, verb)
    }

    fn choose<'n>(
        &mut self,
        routes: &'n [Arc<Route>],
        verb: Option<&str>,
    ) -> Option<&'n Arc<Route>> {
        let of_verb = || routes.iter().filter(|route| route.template().verb() == verb);
        let exact = of_verb().find(|route| route.http_method() == Some(self.method));
        let chosen = exact.or_else(|| of_verb().find(|route| route.http_method().is_none()));
        if chosen.is_none() {
            for method in of_verb().filter_map(|route| route.http_method()) {
                if !self.allowed.contains(method) {
                    self.allowed.push(method.clone());
                }
            }
        }
        chosen
    }
}

fn parts_of(raw: &[&str]) -> Result<Vec<Part>, Miss> {
    raw.iter().map(|segment| part_of(segment)).collect()
}

fn part_of(raw: &str) -> Result<Part, Miss> {
    let malformed = |_| Miss::MalformedPath;
    Ok(Part {
        text: percent::decode(raw).map_err(malformed)?,
        with_slashes_encoded: percent::decode_but_slash(raw).map_err(malformed)?,
    })
}

fn matched(route: &Arc<Route>, parts: &[Part]) -> MatchedRoute {
    let template = route.template();
    let text_of = |variable: &crate::template::Variable| {
        let segments = &template.segments()[variable.span.clone()];
        let end =
            if segments.last() == Some(&Segment::Many) { parts.len() } else { variable.span.end };
        let covered = parts.get(variable.span.start..end).unwrap_or_default();
        match (segments, covered) {
            ([Segment::One | Segment::Literal(_)], [part]) => part.text.clone(),
            _ => covered
                .iter()
                .map(|part| part.with_slashes_encoded.as_str())
                .collect::<Vec<_>>()
                .join("/"),
        }
    };
    MatchedRoute {
        route: Arc::clone(route),
        variables: template.variables().iter().map(text_of).collect(),
    }
}
