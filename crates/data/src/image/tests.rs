use super::*;

/// Three channels of 2x3: pixel `i` is `[10 i, 10 i + 1, 10 i + 2]`.
fn image() -> ByteImage {
    ByteImage::new(2, 3, 3, (0..6).flat_map(|i| [10 * i, 10 * i + 1, 10 * i + 2]).collect()).unwrap()
}

fn first_channel(image: &ByteImage) -> Vec<u8> {
    image.pixels().iter().step_by(image.channels()).copied().collect()
}

#[test]
fn colors_become_the_gray_of_pillow() {
    // Image.new("RGB", (1, 1), color).convert("L") of Pillow 13.
    for (color, gray) in [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([13, 200, 77], 130)] {
        let mut image = ByteImage::new(1, 1, 3, color.to_vec()).unwrap();
        image.convert(1).unwrap();
        assert_eq!((image.pixels(), image.channels()), (&[gray][..], 1), "{color:?}");
        image.convert(3).unwrap();
        assert_eq!(image.pixels(), [gray; 3]);
    }
    assert!(ByteImage::new(1, 1, 2, vec![1, 2]).unwrap().convert(3).is_err());
}

#[test]
fn rectangles_are_cropped_and_padded() {
    let mut cropped = image();
    cropped.crop(1, 1, 1, 2);
    assert_eq!((cropped.size(), cropped.pixels()), ((1, 2), &[40, 41, 42, 50, 51, 52][..]));
    cropped.pad([1, 1, 0, 2], &[7, 8, 9]);
    assert_eq!(cropped.size(), (4, 3));
    assert_eq!(first_channel(&cropped), [7, 7, 7, 7, 40, 50, 7, 7, 7, 7, 7, 7]);
}

#[test]
fn flips_reverse_rows_and_columns() {
    let mut flipped = image();
    flipped.flip_horizontally();
    assert_eq!(first_channel(&flipped), [20, 10, 0, 50, 40, 30]);
    assert_eq!(flipped.pixels()[..3], [20, 21, 22]);
    flipped.flip_vertically();
    assert_eq!(first_channel(&flipped), [50, 40, 30, 20, 10, 0]);
}

#[test]
fn values_are_planes_divided_by_255() {
    let mut values = vec![0.0; 18];
    image().write_unit(&mut values);
    let expected: Vec<f32> =
        (0..3).flat_map(|c| (0..6).map(move |i| f32::from(10 * i + c as u8) / 255.0)).collect();
    assert_eq!(values, expected);
    let two = ByteImage::new(1, 2, 2, vec![1, 2, 3, 4]).unwrap();
    two.write_unit(&mut values[..4]);
    assert_eq!(values[..4], [1, 3, 2, 4].map(|v| v as f32 / 255.0));
    assert!(ByteImage::new(2, 2, 3, vec![0; 11]).is_err());
}
