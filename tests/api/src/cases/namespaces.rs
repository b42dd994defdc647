//! Namespaces: their life, their names, their pages.

use catalog_api::v1::{
    CreateNamespaceRequest, DeleteNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest,
};
use harness::{Session, data, put};
use options_api::v1::Role;
use tonic::Code;

use crate::refusal::refused;
use crate::stage::{Stage, unique};

/// Names that no namespace and no dataset may have.
pub const BAD_NAMES: [&str; 12] =
    ["", ".", "..", "../etc", "a/b", "a\0b", "a b", "Upper", "-dash", "naïve", "a\n", "a..%2f"];

fn create(name: &str) -> CreateNamespaceRequest {
    CreateNamespaceRequest { name: name.to_owned(), ..Default::default() }
}

fn get(name: &str) -> GetNamespaceRequest {
    GetNamespaceRequest { name: name.to_owned() }
}

/// A namespace is there from its creation to its deletion, and its name is taken meanwhile.
pub async fn lifecycle(stage: &Stage) {
    let name = unique("ns");
    let mut namespaces = stage.admin.namespaces();
    let made = namespaces.create_namespace(create(&name)).await.unwrap().into_inner();
    let made = made.namespace.unwrap();
    assert_eq!(made.name, name);
    let read = namespaces.get_namespace(get(&name)).await.unwrap().into_inner();
    assert_eq!(read.namespace.unwrap(), made);
    refused(namespaces.create_namespace(create(&name)).await, Code::AlreadyExists);
    let delete = DeleteNamespaceRequest { name: name.clone() };
    namespaces.delete_namespace(delete).await.unwrap();
    refused(namespaces.get_namespace(get(&name)).await, Code::NotFound);
    namespaces.create_namespace(create(&name)).await.expect("the name is free again");
}

/// `..`, `/`, NUL, over-long and others: a typed error that names the field.
pub async fn bad_names(stage: &Stage) {
    let long = "a".repeat(129);
    for name in BAD_NAMES.iter().copied().chain([long.as_str()]) {
        let status = refused(
            stage.admin.namespaces().create_namespace(create(name)).await,
            Code::InvalidArgument,
        );
        assert!(status.message().len() < 1_000, "a message of a page: {status:?}");
    }
    let longest = format!("{}{}", unique("n"), "x".repeat(94));
    assert_eq!(longest.len(), 128);
    stage.admin.namespaces().create_namespace(create(&longest)).await.expect("128 are allowed");
}

/// One by one or all at once: the same names in the same order, each once.
pub async fn pages(stage: &Stage) {
    let (_, user) = stage.user(Role::User).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(stage.namespace_of(&user).await.name);
    }
    made.sort();
    assert_eq!(listed(&user, 1).await, made);
    assert_eq!(listed(&user, 2).await, made);
    assert_eq!(listed(&user, 0).await, made);
    let wrong = ListNamespacesRequest { page_token: "nonsense".into(), ..Default::default() };
    refused(user.namespaces().list_namespaces(wrong).await, Code::InvalidArgument);
    let negative = ListNamespacesRequest { page_size: -1, ..Default::default() };
    refused(user.namespaces().list_namespaces(negative).await, Code::InvalidArgument);
}

async fn listed(session: &Session, page_size: i32) -> Vec<String> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListNamespacesRequest { page_size, page_token };
        let page = session.namespaces().list_namespaces(request).await.unwrap().into_inner();
        assert!(page_size == 0 || page.namespaces.len() <= usize::try_from(page_size).unwrap());
        names.extend(page.namespaces.into_iter().map(|namespace| namespace.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

/// A namespace that holds a dataset stays.
pub async fn in_use(stage: &Stage) {
    let name = stage.namespace().await;
    put(&stage.admin, &name, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let delete = DeleteNamespaceRequest { name: name.clone() };
    refused(stage.admin.namespaces().delete_namespace(delete).await, Code::FailedPrecondition);
    stage.admin.namespaces().get_namespace(get(&name)).await.expect("it is still there");
}
