//! Commands to paste. They read the token from its file: it is never printed.

use std::net::SocketAddr;
use std::path::Path;

use crate::client::version::DatasetName;

/// Three ways to connect, with the real address and token file.
pub fn ways(address: SocketAddr, token_file: &Path, name: &DatasetName, filter: &str) -> String {
    let DatasetName { namespace, dataset } = name;
    let token = shell(&token_file.display().to_string());
    let python = format!("{:?}", token_file.display().to_string());
    let body = serde_json::json!({ "namespace": namespace, "dataset": dataset, "filter": filter });
    let body = shell(&body.to_string());
    format!(
        r#"
Three ways to connect:

# Python, Arrow Flight (pip install pyarrow)
python3 - <<'EOF'
import pyarrow.flight as flight
token = open({python}).read().strip()
options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token.encode())])
client = flight.FlightClient("grpc://{address}")
info = client.get_flight_info(flight.FlightDescriptor.for_path("{namespace}", "{dataset}"), options)
print(client.do_get(info.endpoints[0].ticket, options).read_all())
EOF

# gRPC; the server describes itself by reflection
grpcurl -plaintext -H "authorization: Bearer $(cat {token})" \
  -d {body} {address} quarry.items.v1.ItemsService/CountItems

# HTTP and JSON
curl -H "authorization: Bearer $(cat {token})" \
  'http://{address}/v1/namespaces/{namespace}/datasets/{dataset}/items?page_size=3'"#
    )
}

/// As one word of a POSIX shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_commands_name_the_real_place_and_never_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("it's here");
        std::fs::write(&file, "qpat_secret").unwrap();
        let name = "demo/shapes".parse().unwrap();
        let text = ways("127.0.0.1:4711".parse().unwrap(), &file, &name, "a = \"b\"");
        assert!(
            text.contains("grpc://127.0.0.1:4711")
                && text.contains("http://127.0.0.1:4711/v1/namespaces/demo")
        );
        assert!(text.contains(r"it'\''s here") && !text.contains("qpat_secret"));
        assert!(text.contains(r#""filter":"a = \"b\"""#));
    }

    #[test]
    fn words_survive_a_shell() {
        let word = "it's \"$(here)\" \\ `x`";
        let printed = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("printf %s {}", shell(word)))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), word);
    }
}
