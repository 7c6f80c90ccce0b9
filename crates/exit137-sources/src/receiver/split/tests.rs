//! Against the protocol's own types.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::*;

#[test]
fn nothing_is_split_into_nothing() {
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
        assert_eq!(split(signal, Encoding::Protobuf, b""), Split::default());
        assert_eq!(split(signal, Encoding::Json, b"{}"), Split::default());
        assert_eq!(split(signal, Encoding::Json, b"").rejected, 1);
    }
    assert!(ExportTraceServiceRequest::default().encode_to_vec().is_empty());
}
