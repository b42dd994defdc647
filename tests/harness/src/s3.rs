//! A bucket on an S3 server from a wheel (moto), in a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::parts::venv;

/// Says where it is once the bucket is there; ends with its input.
const SERVER: &str = r#"
import http.client, logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
connection = http.client.HTTPConnection(host, port)
connection.request("PUT", "/quarry")
assert connection.getresponse().status == 200
print(f"http://{host}:{port}", flush=True)
sys.stdin.read()
"#;

/// A running S3 server with an empty bucket; gone when dropped.
pub struct Bucket {
    server: Child,
    /// Its end is the server's.
    _input: ChildStdin,
    endpoint: String,
}

impl Bucket {
    /// Starts the server. Takes about two seconds.
    pub fn start() -> Self {
        let mut server = Command::new(venv().join("bin/python"))
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tests' Python");
        let input = server.stdin.take().expect("an input");
        let mut said = String::new();
        let output = server.stdout.take().expect("an output");
        BufReader::new(output).read_line(&mut said).expect("the server's address");
        let endpoint = said.trim().to_owned();
        assert!(endpoint.starts_with("http://"), "moto did not start: {said:?}");
        Self { server, _input: input, endpoint }
    }

    /// The settings of a platform whose objects are in it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        variables(&self.endpoint)
    }
}

/// The settings of a platform whose objects are in a bucket of the S3 server at `endpoint`.
pub fn variables(endpoint: &str) -> Vec<(&'static str, String)> {
    vec![
        ("QUARRY_OBJECT_STORE_URL", "s3://quarry/some/prefix".to_owned()),
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ]
}

impl Drop for Bucket {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
