//! Every method of every contract says who may call it and how HTTP reaches it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use architecture::refuse;
use architecture::workspace::root;
use options_api::NeedTable;
use prost_reflect::{DescriptorPool, MethodDescriptor};

/// The contracts; a new service adds its own.
const SETS: [&[u8]; 7] = [
    identity_api::FILE_DESCRIPTOR_SET,
    catalog_api::FILE_DESCRIPTOR_SET,
    items_api::FILE_DESCRIPTOR_SET,
    vectors_api::FILE_DESCRIPTOR_SET,
    ops_api::FILE_DESCRIPTOR_SET,
    files_api::FILE_DESCRIPTOR_SET,
    models_api::FILE_DESCRIPTOR_SET,
];

fn needs() -> NeedTable {
    NeedTable::from_descriptor_sets(&SETS).expect("a need on every method")
}

fn methods() -> Vec<MethodDescriptor> {
    let pools = SETS.map(|set| DescriptorPool::decode(set).expect("a descriptor set"));
    let services = pools.iter().flat_map(DescriptorPool::services);
    let ours = services.filter(|service| service.full_name().starts_with("quarry."));
    let mut methods: Vec<_> =
        ours.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    methods.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    methods.dedup_by(|a, b| a.full_name() == b.full_name());
    methods
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

#[test]
fn every_method_of_the_proto_files_is_in_a_descriptor_set() {
    let known: BTreeSet<String> = methods().iter().map(|m| m.name().to_owned()).collect();
    let files = walk(&root().join("proto/quarry"));
    let mut written = 0;
    let mut breaches = Vec::new();
    for (path, text) in files {
        for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("rpc ")) {
            let name = line.split(['(', ' ']).next().expect("a name");
            written += 1;
            if !known.contains(name) {
                breaches.push(format!("{path}: {name}"));
            }
        }
    }
    refuse("no -api crate compiles these; add it to SETS:", &breaches);
    assert_eq!(written, methods().len());
}

fn walk(dir: &std::path::Path) -> Vec<(String, String)> {
    let files = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.expect("a file"));
    files
        .filter(|file| file.path().extension().is_some_and(|ext| ext == "proto"))
        .map(|file| {
            let text = std::fs::read_to_string(file.path()).expect("text");
            (file.path().display().to_string(), text)
        })
        .collect()
}

#[test]
fn every_method_says_who_may_call_it() {
    let needs = needs();
    let mut breaches = Vec::new();
    for method in methods() {
        let path = path(&method);
        let Some(need) = needs.need(&path) else {
            breaches.push(format!("{path} states no need"));
            continue;
        };
        let role = need.role != 0;
        if !need.public && !need.service_only && !role {
            breaches.push(format!("{path} is open to nobody: give it a role"));
        }
        if need.public && (role || need.service_only || need.resource.is_some()) {
            breaches.push(format!("{path} is public and yet restricted"));
        }
    }
    refuse("authz:", &breaches);
}

#[test]
fn a_read_only_token_reads_and_nothing_else() {
    let needs = needs();
    let mut breaches = Vec::new();
    for method in methods() {
        let need = needs.need(&path(&method)).expect("a need");
        let descriptor = method.method_descriptor_proto();
        let level = descriptor.options.as_ref().and_then(|options| options.idempotency_level);
        let has_no_effects = level == Some(1);
        if need.read_only && !has_no_effects {
            breaches.push(format!("{} is read_only but may change something", method.full_name()));
        }
    }
    refuse("read_only goes with idempotency_level = NO_SIDE_EFFECTS:", &breaches);
}

#[test]
fn every_outward_method_is_reachable_by_http() {
    let needs = needs();
    let mut breaches = Vec::new();
    for method in methods() {
        let need = needs.need(&path(&method)).expect("a need");
        let pool = method.parent_pool();
        let http = pool.get_extension_by_name("google.api.http").expect("google.api.http");
        let inward = need.service_only || need.public || method.is_client_streaming();
        if !inward && !method.options().has_extension(&http) {
            breaches.push(method.full_name().to_owned());
        }
    }
    refuse("no google.api.http:", &breaches);
}
