//! One picture file to 8-bit RGB, or a typed error; nothing in between.

use std::io::{Cursor, Read as _};
use std::path::Path;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::error::ImageError;
use image::{ColorType, ExtendedColorType, ImageDecoder, Limits};

use super::open_file;
use crate::DataError;
use crate::error::ImageFault;

/// Largest width and height, in pixels.
pub(super) const MAX_SIDE: u32 = 8_192;
/// Most bytes that one file, or the decoding of one picture, may take.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// What the file's content says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
}

/// A decoded picture.
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `[3, height, width]`, row-major.
    pub(super) rgb: Vec<u8>,
}

/// Whether the extension is one that is read (`png`, `jpg`, `jpeg`, any case).
pub(super) fn is_picture(path: &Path) -> bool {
    by_extension(path).is_some()
}

fn by_extension(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "png" => Some(Format::Png),
        "jpg" | "jpeg" => Some(Format::Jpeg),
        _ => None,
    }
}

/// Reads and decodes the picture at `path`.
///
/// Grey pictures become RGB with three equal channels. Everything that could not be kept exactly
/// is refused: more than 8 bits a channel, transparency, CMYK, more than one frame.
pub(super) fn read(path: &Path) -> Result<Picture, DataError> {
    let bytes = read_capped(path)?;
    match (by_extension(path), by_content(&bytes)) {
        (Some(Format::Png), Some(Format::Png)) => {
            complete(path, bytes.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"))?;
            let decoder =
                PngDecoder::with_limits(Cursor::new(&bytes), limits()).map_err(|e| undecodable(path, &e))?;
            if decoder.is_apng().map_err(|e| undecodable(path, &e))? {
                return Err(wrong_color(path, "an animation".into()));
            }
            decode(path, decoder)
        }
        (Some(Format::Jpeg), Some(Format::Jpeg)) => {
            // The decoder fills what is missing with grey; only the end mark tells a cut file.
            let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            complete(path, bytes[..end].ends_with(&[0xff, 0xd9]))?;
            let mut decoder = JpegDecoder::new(Cursor::new(&bytes)).map_err(|e| undecodable(path, &e))?;
            decoder.set_limits(limits()).map_err(|e| undecodable(path, &e))?;
            if jpeg_components(&bytes) == Some(4) {
                return Err(wrong_color(path, "four colour components (CMYK)".into()));
            }
            decode(path, decoder)
        }
        (_, content) => Err(DataError::Image {
            file: path.to_owned(),
            fault: ImageFault::Extension,
            got: match content {
                Some(Format::Png) => "the content is PNG".into(),
                Some(Format::Jpeg) => "the content is JPEG".into(),
                None => format!("the content is neither PNG nor JPEG ({} bytes)", bytes.len()),
            },
            expected: "a PNG or JPEG picture whose extension says which".into(),
            mend: "Rename the file to its true extension, or save the picture again".into(),
        }),
    }
}

fn read_capped(path: &Path) -> Result<Vec<u8>, DataError> {
    let unreadable = |source| DataError::io(path, "read", source);
    let file = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(over_limit(path, "a larger file".into()));
    }
    Ok(bytes)
}

fn by_content(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        Some(Format::Jpeg)
    } else {
        None
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    limits
}

fn decode(path: &Path, decoder: impl ImageDecoder) -> Result<Picture, DataError> {
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE || decoder.total_bytes() > MAX_BYTES
    {
        return Err(over_limit(path, format!("{width} × {height} pixels")));
    }
    let channels = match (decoder.color_type(), decoder.original_color_type()) {
        (_, ExtendedColorType::Cmyk8) => return Err(wrong_color(path, "CMYK".into())),
        (ColorType::L8, _) => 1,
        (ColorType::Rgb8, _) => 3,
        (other, _) => return Err(wrong_color(path, format!("{other:?}"))),
    };
    let (width, height) = (width as usize, height as usize);
    let mut pixels = super::allocate("a decoded picture", width.checked_mul(height * channels))?;
    decoder.read_image(&mut pixels).map_err(|e| undecodable(path, &e))?;
    let mut rgb = Vec::with_capacity(3 * width * height);
    for channel in 0..3 {
        rgb.extend(pixels.iter().skip(channel % channels).step_by(channels));
    }
    Ok(Picture { width, height, rgb })
}

/// Number of components in the first start-of-frame segment of a JPEG file.
fn jpeg_components(bytes: &[u8]) -> Option<u8> {
    let mut at = 2;
    while let [0xff, marker, high, low, ..] = *bytes.get(at..)? {
        match marker {
            // Start of frame, but not the tables (c4, c8, cc) among these numbers.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => return bytes.get(at + 9).copied(),
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    None
}

fn complete(path: &Path, ends: bool) -> Result<(), DataError> {
    if ends {
        return Ok(());
    }
    Err(DataError::Image {
        file: path.to_owned(),
        fault: ImageFault::Decode,
        got: "the picture's end mark is missing, so the file is cut or has something behind it".into(),
        expected: "a whole picture".into(),
        mend: "Replace the file by a good copy".into(),
    })
}

fn undecodable(path: &Path, error: &ImageError) -> DataError {
    if let ImageError::Limits(limit) = error {
        return over_limit(path, limit.to_string());
    }
    DataError::Image {
        file: path.to_owned(),
        fault: ImageFault::Decode,
        got: error.to_string().chars().take(160).collect::<String>().escape_debug().to_string(),
        expected: "a whole, undamaged picture".into(),
        mend: "Replace the file by a good copy".into(),
    }
}

fn over_limit(path: &Path, got: String) -> DataError {
    DataError::Image {
        file: path.to_owned(),
        fault: ImageFault::Limit,
        got,
        expected: format!("1 to {MAX_SIDE} pixels a side and at most {} MiB", MAX_BYTES >> 20),
        mend: "Scale the picture down".into(),
    }
}

fn wrong_color(path: &Path, got: String) -> DataError {
    DataError::Image {
        file: path.to_owned(),
        fault: ImageFault::Color,
        got,
        expected: "one frame of 8-bit RGB or grey, without transparency".into(),
        mend: "Convert the picture to 8-bit RGB".into(),
    }
}
