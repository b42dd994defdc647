//! Makes the sample dataset `samples/shapes`: small pictures computed from
//! formulas, with captions. `cargo run -p ingest --example make-samples`

use std::fmt::Write as _;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ImageEncoder, ImageError, Rgb, RgbImage};

const SECTIONS: [&str; 5] = ["blobs", "rings", "stripes", "tiles", "waves"];
const PALETTES: [(&str, [[u8; 3]; 4]); 6] = [
    ("ember", [[38, 12, 18], [128, 28, 30], [226, 88, 34], [250, 196, 92]]),
    ("ocean", [[8, 24, 58], [18, 78, 120], [44, 150, 170], [196, 232, 226]]),
    ("forest", [[16, 36, 24], [38, 92, 52], [112, 150, 66], [222, 226, 170]]),
    ("dusk", [[30, 18, 54], [92, 48, 110], [196, 98, 130], [250, 190, 170]]),
    ("sand", [[70, 50, 36], [146, 108, 72], [206, 172, 120], [244, 230, 200]]),
    ("mono", [[20, 20, 22], [90, 92, 96], [168, 170, 174], [240, 240, 242]]),
];
const EACH: usize = 12;
const SIDES: [u32; 6] = [96, 128, 160, 192, 224, 256];
/// Every so many captions stand in a text file beside the image.
const TEXT_FILE_EVERY: usize = 5;

/// One picture of the set.
struct Picture {
    section: &'static str,
    number: usize,
    palette: usize,
    width: u32,
    height: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/shapes");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let mut table = String::from(
        "file_name,title,section,palette,caption,tags_json,is_favorite,quality_score\n",
    );
    for (kind, section) in SECTIONS.into_iter().enumerate() {
        fs::create_dir_all(root.join(section))?;
        for number in 1..=EACH {
            let picture = Picture::new(kind, section, number);
            let path = root.join(picture.name());
            picture.save(&path)?;
            picture.describe(kind * EACH + number, &path, &mut table)?;
        }
    }
    fs::write(root.join("metadata.csv"), table)?;
    Ok(())
}

impl Picture {
    fn new(kind: usize, section: &'static str, number: usize) -> Self {
        let width = SIDES[(number * 5 + kind) % SIDES.len()];
        let height = if number.is_multiple_of(4) {
            width * 3 / 4
        } else {
            SIDES[(number * 7 + kind * 2) % SIDES.len()]
        };
        Self { section, number, palette: (number + kind * 2) % PALETTES.len(), width, height }
    }

    fn name(&self) -> PathBuf {
        let extension = if self.number.is_multiple_of(3) { "jpg" } else { "png" };
        PathBuf::from(format!("{}/{}-{:02}.{extension}", self.section, self.section, self.number))
    }

    fn save(&self, path: &Path) -> Result<(), ImageError> {
        let image = RgbImage::from_fn(self.width, self.height, |x, y| self.colour(x, y));
        let out = BufWriter::new(fs::File::create(path)?);
        let (width, height) = image.dimensions();
        let colour = image::ExtendedColorType::Rgb8;
        if path.extension().is_some_and(|extension| extension == "jpg") {
            JpegEncoder::new_with_quality(out, 72).write_image(&image, width, height, colour)
        } else {
            PngEncoder::new_with_quality(out, CompressionType::Best, FilterType::Adaptive)
                .write_image(&image, width, height, colour)
        }
    }

    fn colour(&self, x: u32, y: u32) -> Rgb<u8> {
        let shades = &PALETTES[self.palette].1;
        // Few shades keep the files small.
        let level = (self.level(x, y).clamp(0.0, 0.999) * 12.0).floor() / 12.0 * 3.0;
        let (from, part) = (level.floor(), level.fract());
        let (low, high) = (shades[from as usize], shades[(from as usize + 1).min(3)]);
        Rgb([0, 1, 2].map(|at| {
            (f64::from(low[at]) * (1.0 - part) + f64::from(high[at]) * part).round() as u8
        }))
    }

    /// From 0 to 1.
    fn level(&self, x: u32, y: u32) -> f64 {
        let (u, v) = (f64::from(x) / f64::from(self.width), f64::from(y) / f64::from(self.height));
        let n = self.number as f64;
        match self.section {
            "rings" => ((u - 0.5).hypot(v - 0.5) * (8.0 + n * 2.0)).sin().mul_add(0.5, 0.5),
            "stripes" => ((u * (n * 0.5).cos() + v * (n * 0.5).sin()) * (10.0 + n))
                .sin()
                .signum()
                .mul_add(0.35, 0.5),
            "tiles" => {
                let (a, b) = ((u * (3.0 + n)).floor(), (v * (3.0 + n)).floor());
                ((a * 12.9 + b * 78.2 + n).sin() * 43_758.5).fract().abs()
            }
            "waves" => (v * 6.0 + (u * (6.0 + n)).sin() * 0.8 + n).sin().mul_add(0.5, 0.5),
            _ => (0..5).map(|blob| self.blob(f64::from(blob), u, v)).sum::<f64>().min(1.0),
        }
    }

    fn blob(&self, blob: f64, u: f64, v: f64) -> f64 {
        let n = self.number as f64;
        let (x, y) = (
            (n * 1.7 + blob * 2.3).sin().mul_add(0.35, 0.5),
            (n * 2.9 + blob * 1.3).cos().mul_add(0.35, 0.5),
        );
        (-((u - x).powi(2) + (v - y).powi(2)) * 40.0).exp()
    }

    fn describe(&self, at: usize, path: &Path, table: &mut String) -> std::io::Result<()> {
        let palette = PALETTES[self.palette].0;
        let (section, number) = (self.section, self.number);
        let mut caption = format!(
            "{} in the colours of {palette}, {} by {} pixels",
            capital(section),
            self.width,
            self.height
        );
        if at.is_multiple_of(TEXT_FILE_EVERY) {
            fs::write(path.with_extension("txt"), format!("{caption}\n"))?;
            caption.clear();
        }
        let name = self.name();
        let quality = 50 + (at * 37) % 50;
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{},{} {number},{section},{palette},\"{caption}\",\"[\"\"{section}\"\",\"\"{palette}\"\"]\",{},{quality}",
            name.display(),
            capital(section),
            at.is_multiple_of(7),
        );
        Ok(())
    }
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}
