//! A compiled client for `tests/bench/files`: looks for parts of names one after another on one
//! connection, and for each a line on stdout: nanoseconds, then how many files were found.
//!
//! ```text
//! find-client ADDRESS TOKEN PAGE_SIZE ROUNDS TEXT…
//! ```

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use files_api::v1::files_service_client::FilesServiceClient;
use files_api::v1::{FileQuery, SearchFilesRequest};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;

type Failure = Box<dyn Error>;

/// Searches for each text before the first that is measured.
const WARM: usize = 20;
/// The deadline of each call, as the client in Python sets it.
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, token, page_size, rounds, texts @ ..] = args.as_slice() else {
        return Err("see the head of its source".into());
    };
    let (page_size, rounds): (i32, usize) = (page_size.parse()?, rounds.parse()?);
    let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = FilesServiceClient::new(channel);
    let request = |text: &String| {
        let query = FileQuery { text: text.clone(), ..FileQuery::default() };
        let asked =
            SearchFilesRequest { query: Some(query), page_size, ..SearchFilesRequest::default() };
        let mut request = Request::new(asked);
        request.metadata_mut().insert("authorization", bearer.clone());
        request.set_timeout(DEADLINE);
        request
    };
    let mut out = std::io::stdout().lock();
    for text in texts {
        for _ in 0..WARM {
            client.search_files(request(text)).await?;
        }
        for _ in 0..rounds {
            let request = request(text);
            let begin = Instant::now();
            let found = client.search_files(request).await?.into_inner().entries.len();
            writeln!(out, "{} {found}", begin.elapsed().as_nanos())?;
        }
    }
    Ok(())
}
