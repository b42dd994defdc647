//! The route table: every HTTP binding of every method that the outside may
//! call, checked against the messages once at start.

use std::fmt;
use std::sync::Arc;

use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

use crate::path::{MatchedRoute, Miss, Tree};
use crate::template::Template;

const HTTP_OPTION: &str = "google.api.http";
const HTTP_BODY: &str = "google.api.HttpBody";

/// Who may call a method over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Nobody: the method has no route.
    Hidden,
    /// Callers with a credential.
    Authenticated,
    /// Everybody.
    Public,
}

/// Which part of the request message the HTTP body is.
#[derive(Debug, Clone)]
pub(crate) enum BodyRule {
    /// No body; all fields come from the path and the query.
    None,
    /// Every field that the path does not bind.
    All,
    /// This field; the others come from the path and the query.
    Field(FieldDescriptor),
}

/// One HTTP binding of one method.
#[derive(Debug)]
pub struct Route {
    method: MethodDescriptor,
    grpc_path: String,
    http_method: Option<Method>,
    template: Template,
    pub(crate) body: BodyRule,
    pub(crate) response_body: Option<FieldDescriptor>,
    exposure: Exposure,
    ordinal: usize,
}

impl Route {
    /// The method that answers.
    #[must_use]
    pub fn method(&self) -> &MethodDescriptor {
        &self.method
    }

    /// Its gRPC path, e.g. `/quarry.items.v1.ItemsService/ListItems`.
    #[must_use]
    pub fn grpc_path(&self) -> &str {
        &self.grpc_path
    }

    /// The HTTP method; none means any.
    #[must_use]
    pub fn http_method(&self) -> Option<&Method> {
        self.http_method.as_ref()
    }

    /// The path.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Who may call it. Never [`Exposure::Hidden`].
    #[must_use]
    pub fn exposure(&self) -> Exposure {
        self.exposure
    }

    /// 0 for the binding itself, then its additional ones in order.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// Whether answers are raw bytes with a content type of their own.
    pub(crate) fn answers_http_body(&self) -> bool {
        is_http_body(&self.method.output())
    }

    /// Where raw request bytes go, if that is what the body is.
    pub(crate) fn takes_http_body(&self) -> bool {
        match &self.body {
            BodyRule::None => false,
            BodyRule::All => is_http_body(&self.method.input()),
            BodyRule::Field(field) => field.kind().as_message().is_some_and(is_http_body),
        }
    }
}

pub(crate) fn is_http_body(message: &MessageDescriptor) -> bool {
    message.full_name() == HTTP_BODY
}

/// A binding that does not fit its method, or two that answer the same path.
#[derive(Debug)]
pub struct TableError(String);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TableError {}

/// All routes.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    tree: Tree,
}

impl RouteTable {
    /// Reads the `google.api.http` option of every method in the pool that
    /// `exposure` does not hide.
    ///
    /// # Errors
    /// A template outside the grammar, a variable or body that names no field
    /// of the request, two routes with the same method and path.
    pub fn new(
        pool: &DescriptorPool,
        exposure: impl Fn(&MethodDescriptor) -> Exposure,
    ) -> Result<Self, TableError> {
        let mut table = Self::default();
        let Some(option) = pool.get_extension_by_name(HTTP_OPTION) else {
            return Ok(table);
        };
        for service in pool.services() {
            for method in service.methods() {
                let exposure = exposure(&method);
                let options = method.options();
                if exposure == Exposure::Hidden || !options.has_extension(&option) {
                    continue;
                }
                if let Some(rule) = options.get_extension(&option).as_message() {
                    table.add(&method, rule, exposure).map_err(|problem| {
                        TableError(format!("{}: {problem}", method.full_name()))
                    })?;
                }
            }
        }
        Ok(table)
    }

    /// The route of a request. The path is given as it stands in the URL,
    /// undecoded; `HEAD` is answered where `GET` is.
    ///
    /// # Errors
    /// What the answer must be when there is none.
    pub fn find(&self, method: &Method, path: &str) -> Result<MatchedRoute, Miss> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.tree.find(method, path)
    }

    /// All routes, in the order of the descriptors.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(AsRef::as_ref)
    }

    fn add(
        &mut self,
        method: &MethodDescriptor,
        rule: &DynamicMessage,
        exposure: Exposure,
    ) -> Result<(), String> {
        let additional = rule.get_field_by_name("additional_bindings");
        let additional =
            additional.as_deref().and_then(|value| value.as_list()).unwrap_or_default();
        let rules =
            std::iter::once(rule).chain(additional.iter().filter_map(|value| value.as_message()));
        for (ordinal, rule) in rules.enumerate() {
            let route = Arc::new(bind(method, rule, exposure, ordinal)?);
            self.tree.insert(&route).map_err(|other| {
                format!(
                    "{} is already answered by {}",
                    route.template(),
                    other.method().full_name()
                )
            })?;
            self.routes.push(route);
        }
        Ok(())
    }
}

fn bind(
    method: &MethodDescriptor,
    rule: &DynamicMessage,
    exposure: Exposure,
    ordinal: usize,
) -> Result<Route, String> {
    let (http_method, path) = pattern_of(rule)?;
    let template = Template::parse(&path).map_err(|error| error.to_string())?;
    let input = method.input();
    for variable in template.variables() {
        check_variable(&input, &variable.field_path)?;
    }
    let body = match text_of(rule, "body").as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::All,
        name => BodyRule::Field(field_of(&input, name)?),
    };
    let response_body = match text_of(rule, "response_body").as_str() {
        "" => None,
        name => Some(field_of(&method.output(), name)?),
    };
    let grpc_path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    Ok(Route {
        method: method.clone(),
        grpc_path,
        http_method,
        template,
        body,
        response_body,
        exposure,
        ordinal,
    })
}

fn pattern_of(rule: &DynamicMessage) -> Result<(Option<Method>, String), String> {
    let named = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    for (name, method) in named {
        if rule.has_field_by_name(name) {
            return Ok((Some(method), text_of(rule, name)));
        }
    }
    let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
    let custom = custom
        .as_deref()
        .and_then(|value| value.as_message())
        .ok_or("the http option has no path")?;
    let method = match text_of(custom, "kind").as_str() {
        "*" => None,
        kind => Some(
            Method::from_bytes(kind.as_bytes())
                .map_err(|_| format!("{kind:?} is no HTTP method"))?,
        ),
    };
    Ok((method, text_of(custom, "path")))
}

fn text_of(message: &DynamicMessage, name: &str) -> String {
    message
        .get_field_by_name(name)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn field_of(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    message
        .get_field_by_name(name)
        .ok_or_else(|| format!("{} has no field {name}", message.full_name()))
}

fn check_variable(input: &MessageDescriptor, path: &[String]) -> Result<(), String> {
    let mut message = input.clone();
    for (depth, name) in path.iter().enumerate() {
        let field = field_of(&message, name)?;
        let last = depth + 1 == path.len();
        match field.kind() {
            Kind::Message(inner) if !last && !field.is_list() => message = inner,
            Kind::Message(_) => {
                return Err(format!("{} cannot stand in a path", field.full_name()));
            }
            _ if !last || field.is_list() => {
                return Err(format!("{} cannot stand in a path", field.full_name()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
