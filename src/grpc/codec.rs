//! Messages in prost's encoding, in buffers of their size.
//!
//! tonic's own codec takes 8 KiB for each message, twice for each request; a question of Envoy's and
//! its answer have a hundred bytes or two. Larger ones let their buffers grow.

use std::marker::PhantomData;

use tonic::codec::{BufferSettings, Codec};
use tonic_prost::prost::Message;
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The bytes that a message is given room for at first.
const INITIAL_BUFFER_BYTES: usize = 256;
/// The bytes of a stream of messages that are collected before they are sent, as in tonic; there are
/// no streams here.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// Encodes `T` and decodes `U`.
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
