//! How often a request makes the two sidecars of its path allocate, with JWT (remembered), authorization, breaker, metrics
//! and sampled traces on. The application and the client here allocate nothing per request, so what is counted is the
//! proxies'. The number only goes down: whoever makes a request cheaper lowers it.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use weft_e2e::manifest::service;
use weft_e2e::mesh::Mesh;
use weft_e2e::tokens::{AUDIENCE, ISSUER, Issuer};

/// Allocations per request of both proxies together.
const AT_MOST: u64 = 43;
const WARM: u64 = 300;
const REQUESTS: u64 = 2000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, counted.
struct Counting;

// SAFETY: every call goes to the system's allocator with the arguments it came with.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[test]
fn a_request_allocates_no_more_than_it_did() {
    let issuer = Issuer::new("k1");
    let mut mesh = Mesh::new(&manifests(&issuer));
    mesh.add("product-0", &[("http", application())]);
    mesh.add("order-0", &[]);
    let mut client = TcpStream::connect(mesh.outbound("order-0", "shop/product:http")).unwrap();
    client.set_nodelay(true).unwrap();
    let token = issuer.token("ada", "customer");
    let request = format!(
        "GET /orders/7?page=2 HTTP/1.1\r\nhost: product\r\nuser-agent: test\r\naccept: */*\r\n\
         authorization: Bearer {token}\r\n\r\n"
    );
    let mut buffer = [0; 8192];
    for _ in 0..WARM {
        exchange(&mut client, request.as_bytes(), &mut buffer);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..REQUESTS {
        exchange(&mut client, request.as_bytes(), &mut buffer);
    }
    // Timers and the like add a little now and then.
    let each = (ALLOCATIONS.load(Ordering::Relaxed) - before) / REQUESTS;
    println!("{each} allocations per request");
    assert!(each <= AT_MOST, "{each} allocations per request, at most {AT_MOST} expected");
}

fn manifests(issuer: &Issuer) -> String {
    let product = format!(
        "  authentication:
    jwt:
    - issuer: {ISSUER}
      audiences: [{AUDIENCE}]
      jwks: {{inline: '{}'}}
      claimHeaders: {{sub: x-user-id}}
    required: true
  authorization:
    default: Deny
    rules:
    - name: customers
      from: {{services: [order]}}
      to: {{methods: [GET], paths: [\"/orders*\"]}}
      when: {{claims: {{role: [customer]}}}}
  resilience:
    timeout: 5s
    circuitBreaker: {{consecutiveFailures: 5, openFor: 60s}}
  telemetry: {{tracing: {{sampling: 0.01}}}}",
        issuer.jwks()
    );
    service("product", &product) + &service("order", "")
}

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"id\": 7}END";
const END: &[u8] = b"END";

/// Answers every head with the same bytes.
fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 8192];
    while read_until(&mut stream, b"\r\n\r\n", &mut buffer) {
        stream.write_all(ANSWER).unwrap();
    }
}

fn exchange(client: &mut TcpStream, request: &[u8], buffer: &mut [u8]) {
    client.write_all(request).unwrap();
    assert!(read_until(client, END, buffer), "closed instead of answered");
    assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", buffer.escape_ascii());
}

/// Reads until the bytes end so; false at the end of the stream.
fn read_until(stream: &mut TcpStream, end: &[u8], buffer: &mut [u8]) -> bool {
    let mut filled = 0;
    while filled < buffer.len() {
        let read = stream.read(&mut buffer[filled..]).unwrap_or_default();
        filled += read;
        if read == 0 || buffer[..filled].ends_with(end) {
            return read > 0;
        }
    }
    false
}
