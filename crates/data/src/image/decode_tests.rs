use std::fs;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};

use super::*;

fn decoded(bytes: &[u8]) -> Result<ByteImage> {
    let mut image = ByteImage::default();
    decode(bytes, DecodeOptions::new(3), &mut image)?;
    Ok(image)
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    DynamicImage::from(RgbImage::new(16, 16)).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// A JPEG of 16 x 16 pixels whose header says `side` x `side`.
fn jpeg(side: u16) -> Vec<u8> {
    let mut bytes = encoded(ImageFormat::Jpeg);
    let frame = bytes.windows(2).position(|pair| pair[0] == 0xff && (0xc0..=0xc2).contains(&pair[1]));
    let frame = frame.unwrap();
    for at in [5, 7] {
        bytes[frame + at..frame + at + 2].copy_from_slice(&side.to_be_bytes());
    }
    bytes
}

/// A PNG of 16 x 16 pixels whose header says `side` x `side`.
fn png(side: u32) -> Vec<u8> {
    let mut bytes = encoded(ImageFormat::Png);
    bytes[16..20].copy_from_slice(&side.to_be_bytes());
    bytes[20..24].copy_from_slice(&side.to_be_bytes());
    let sum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step))
}

#[test]
fn images_are_refused_by_their_header() {
    assert_eq!(decoded(&jpeg(16)).unwrap().size(), (16, 16));
    let bytes = jpeg(12_000);
    assert!(bytes.len() < 1000, "{}", bytes.len());
    let text = decoded(&bytes).unwrap_err().to_string();
    assert!(text.starts_with("its header declares 12000 x 12000 pixels, 412.0 MiB decoded"), "{text}");
    assert!(text.contains("may hold at most 64.2 MiB"), "{text}");

    assert_eq!(decoded(&png(16)).unwrap().size(), (16, 16));
    let text = decoded(&png(12_000)).unwrap_err().to_string();
    assert!(text.starts_with("its header declares 12000 x 12000 pixels, 412.0 MiB decoded"), "{text}");
    let text = decoded(&png(30_000)).unwrap_err().to_string();
    assert!(text.starts_with("the header declares an image of 30000x30000: expected"), "{text}");
    assert!(decoded(&png(1 << 31)).is_err());

    // The header check of a folder says the same.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    fs::write(&path, png(12_000)).unwrap();
    let text = super::super::read_header(&path).unwrap_err().to_string();
    assert!(text.starts_with("its header declares 12000 x 12000 pixels"), "{text}");
}

/// Kinds of JPEG that a decoder of 8-bit images does not know are found without decoding.
#[test]
fn jpeg_files_of_unsupported_kinds_are_refused_by_their_header() {
    use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress_lossless, precision::compress_12bit};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let at_header = super::super::read_header(&path).unwrap_err().to_string();
        assert_eq!(decoded(bytes).unwrap_err().to_string(), at_header);
        at_header
    };
    let deep = compress_12bit(&[2048; 256], 16, 16, 1, 90, Subsampling::S444).unwrap();
    assert_eq!(refused(&deep), "JPEG files of 1 component with 12 bits are not supported");
    let mut hierarchical = jpeg(16);
    let frame = hierarchical.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    hierarchical[frame + 1] = 0xc5;
    assert_eq!(refused(&hierarchical), "hierarchical JPEG files are not supported");

    let values: Vec<u8> = (0..=255).collect();
    let lossless = compress_lossless(&values, 16, 16, PixelFormat::Grayscale).unwrap();
    assert!(lossless.windows(2).any(|pair| pair == [0xff, 0xc3]));
    let image = decoded(&lossless).unwrap();
    assert!(image.pixels().chunks(3).map(|rgb| rgb[0]).eq(values));
}

/// A TIFF file of 2 x 2 pixels with the palette indices 0, 1, 2 and 255.
fn tiff_with_palette(big_endian: bool) -> Vec<u8> {
    let u16_bytes = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let u32_bytes = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    // The pixels, then the color map, then the directory.
    let (pixels, map, directory) = (8, 12, 12 + 2 * 768);
    let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
    bytes.extend(u32_bytes(directory));
    bytes.extend([0, 1, 2, 255]);
    for channel in 0..3u16 {
        (0..256u16).for_each(|i| bytes.extend(u16_bytes((i * (channel + 1) % 256) << 8 | 0x7f)));
    }
    let short = |value: u16| [u16_bytes(value), [0, 0]].concat();
    let entries: [(u16, u16, u32, Vec<u8>); 9] = [
        (256, 3, 1, short(2)),
        (257, 3, 1, short(2)),
        (258, 3, 1, short(8)),
        (259, 3, 1, short(1)),
        (262, 3, 1, short(3)),
        (273, 4, 1, u32_bytes(pixels).to_vec()),
        (278, 3, 1, short(2)),
        (279, 4, 1, u32_bytes(4).to_vec()),
        (320, 3, 768, u32_bytes(map).to_vec()),
    ];
    bytes.extend(u16_bytes(entries.len() as u16));
    for (tag, kind, count, value) in entries {
        bytes.extend(u16_bytes(tag));
        bytes.extend(u16_bytes(kind));
        bytes.extend(u32_bytes(count));
        bytes.extend(value);
    }
    bytes.extend([0; 4]);
    bytes
}

#[test]
fn palettes_of_tiff_files_are_colors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tiff");
    for big_endian in [false, true] {
        let bytes = tiff_with_palette(big_endian);
        let expected = [0, 0, 0, 1, 2, 3, 2, 4, 6, 255, 254, 253];
        assert_eq!(decoded(&bytes).unwrap().pixels(), expected, "big endian: {big_endian}");
        fs::write(&path, &bytes).unwrap();
        let header = super::super::read_header(&path).unwrap();
        assert_eq!((header.size(), header.is_color), ((2, 2), true));
        for length in 0..bytes.len() {
            let _ = decoded(&bytes[..length]);
        }
    }
}

/// Decoders allocate the frame, also where it is larger than the screen.
#[test]
fn a_gif_file_whose_frame_exceeds_its_screen_is_an_error() {
    let bytes = encoded(ImageFormat::Gif);
    let frame = bytes.iter().position(|&b| b == 0x2c).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    for (at, value) in [(1, 1), (3, 1), (5, 7697), (7, 25_400)] {
        let mut bytes = bytes.clone();
        bytes[frame + at..frame + at + 2].copy_from_slice(&u16::to_le_bytes(value));
        fs::write(&path, &bytes).unwrap();
        for e in [decoded(&bytes).unwrap_err(), super::super::read_header(&path).unwrap_err()] {
            assert!(e.to_string().contains("exceeds its screen of"), "{e}");
        }
    }
}

#[test]
fn a_webp_file_that_is_cut_is_an_error() {
    let bytes = encoded(ImageFormat::WebP);
    assert_eq!(decoded(&bytes).unwrap().size(), (16, 16));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.webp");
    for missing in 1..6 {
        let cut = &bytes[..bytes.len() - missing];
        fs::write(&path, cut).unwrap();
        for e in [decoded(cut).unwrap_err(), super::super::read_header(&path).unwrap_err()] {
            assert!(e.to_string().contains("the WebP file is truncated: it declares"), "{e}");
        }
    }
}

#[test]
fn half_a_file_is_an_error() {
    for (format, bytes) in [("JPEG", jpeg(16)), ("PNG", png(16)), ("BMP", encoded(ImageFormat::Bmp))] {
        for length in [0, 1, bytes.len() / 2] {
            assert!(decoded(&bytes[..length]).is_err(), "{length} bytes of a {format} file");
        }
    }
}

/// A JPEG of four components with these sampling factors; the data are those of three.
fn cmyk(sampling: [u8; 4]) -> Vec<u8> {
    let bytes = jpeg(16);
    let find = |marker: u8| bytes.windows(2).position(|pair| pair == [0xff, marker]).unwrap();
    let (frame, scan) = (find(0xc0), find(0xda));
    let components = |numbers: &[[u8; 3]]| numbers.concat();
    let frame_header: Vec<[u8; 3]> = (1..).zip(sampling).map(|(id, factors)| [id, factors, 0]).collect();
    let scan_header = [[1, 0], [2, 0], [3, 0], [4, 0]].concat();
    [
        &bytes[..frame],
        &[0xff, 0xc0, 0, 20, 8, 0, 16, 0, 16, 4],
        &components(&frame_header),
        &bytes[frame + 19..scan],
        &[0xff, 0xda, 0, 14, 4],
        &scan_header,
        &[0, 63, 0],
        &bytes[scan + 14..],
    ]
    .concat()
}

#[test]
fn unusual_sampling_of_cmyk_is_an_error() {
    for sampling in [[0x22, 0x11, 0x11, 0x11], [0x11, 0x22, 0x22, 0x11], [0x22, 0x11, 0x21, 0x22]] {
        let text = decoded(&cmyk(sampling)).unwrap_err().to_string();
        assert!(text.contains("sampling of CMYK components"), "{sampling:02x?}: {text}");
    }
    let text = decoded(&cmyk([0x11; 4])).map_or_else(|e| e.to_string(), |_| String::new());
    assert!(!text.contains("sampling"), "{text}");
}
