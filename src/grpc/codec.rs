//! A gRPC codec for small messages.
//!
//! tonic's own codec allocates 8 KiB for each message, twice for each request. Envoy's requests and
//! responses have one or two hundred bytes. The buffers grow for larger ones.

use std::marker::PhantomData;

use tonic::codec::{BufferSettings, Codec};
use tonic_prost::prost::Message;
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The initial size of a message's buffer, in bytes.
const INITIAL_BUFFER_BYTES: usize = 256;
/// The bytes of a stream that are collected before they are sent, as in tonic. No method here is a
/// stream.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// Encodes responses `T` and decodes requests `U`.
#[derive(Debug)]
pub(super) struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(
            INITIAL_BUFFER_BYTES,
            YIELD_THRESHOLD_BYTES,
        ))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(
            INITIAL_BUFFER_BYTES,
            YIELD_THRESHOLD_BYTES,
        ))
    }
}
