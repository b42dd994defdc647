//! What a part of a name finds: read one by one, from the index, and once files have
//! other names and places.

use super::{Place, file, on_each};
use crate::model::{Query, Sort, SortBy};
use crate::store::SortValue;

async fn found(place: &Place<'_>, text: &str) -> Vec<String> {
    let query = Query {
        text: Some(text.to_owned()),
        locations: vec![place.location].into(),
        with_hidden: true,
        ..Query::default()
    };
    let sort = Sort { by: SortBy::Name, descending: false };
    let found = place.store.search(&query, sort, None, 100).await.unwrap();
    found.iter().map(|found| found.path()).collect()
}

/// The same in the order of the numbers, by pages of a few.
async fn paged(place: &Place<'_>, text: &str, descending: bool, limit: u32) -> Vec<i64> {
    let query = Query {
        text: Some(text.to_owned()),
        locations: vec![place.location].into(),
        ..Query::default()
    };
    let sort = Sort { by: SortBy::Number, descending };
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = place.store.search(&query, sort, after, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        let Some(last) = page.last() else { return ids };
        after = Some((SortValue::Number(0), last.id));
        assert!(page.iter().all(|found| found.name.to_lowercase().contains(text)));
        ids.extend(page.iter().map(|found| found.id));
    }
}

#[tokio::test]
async fn pages_of_what_a_text_finds_are_all_of_it_in_order() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let other = Place::new(&store, "/other").await;
        let name = |n: u64| match n % 9 {
            0 => format!("d{}/rare {n}", n % 5),
            _ => format!("d{}/often {n}", n % 5),
        };
        let files: Vec<_> = (0..200).map(|n| file(&name(n), 100 + n, 1, 7)).collect();
        // Their pages are found too, and none of their entries.
        other.scan(&files).await;
        place.scan(&files).await;
        for is_indexed in [false, true] {
            while is_indexed && store.index_names().await.unwrap() {}
            for (text, count) in [("rare", 23), ("often", 177), ("often 17", 10), ("never", 0)] {
                for limit in [1, 3, 64, 500] {
                    let found = paged(&place, text, false, limit).await;
                    assert_eq!(found.len(), count, "{is_indexed} {text} {limit}");
                    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
                    let mut back = paged(&place, text, true, limit).await;
                    back.reverse();
                    assert_eq!(found, back, "{is_indexed} {text} {limit}");
                }
            }
            // The others' files are gone from their pages' entries.
            other.scan(&files[..10]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn letters_are_found_in_any_case_by_any_database() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let names = [
            "ÉCOLE.pdf",
            "école 2",
            "Ω.txt",
            "ω_%.txt",
            "МОСКВА",
            "Москва 2",
            "日本語",
            "straße",
            "K.k",
        ];
        let files: Vec<_> =
            names.iter().zip(100..).map(|(name, ino)| file(name, ino, 1, 7)).collect();
        place.scan(&files).await;
        for is_indexed in [false, true] {
            while is_indexed && store.index_names().await.unwrap() {}
            for (text, wanted) in [
                ("école", vec!["ÉCOLE.pdf", "école 2"]),
                ("ÉCO", vec!["ÉCOLE.pdf", "école 2"]),
                ("cole", vec!["ÉCOLE.pdf", "école 2"]),
                ("É", vec!["ÉCOLE.pdf", "école 2"]),
                ("Ω", vec!["Ω.txt", "ω_%.txt"]),
                ("ω.TXT", vec!["Ω.txt"]),
                ("Ω_%.t", vec!["ω_%.txt"]),
                ("москва", vec!["МОСКВА", "Москва 2"]),
                ("Ква", vec!["МОСКВА", "Москва 2"]),
                ("日本語", vec!["日本語"]),
                ("STRAß", vec!["straße"]),
                ("strasse", vec![]),
                ("k.K", vec!["K.k"]),
            ] {
                let mut wanted = wanted;
                wanted.sort_unstable();
                assert_eq!(found(&place, text).await, wanted, "{is_indexed} {text}");
                let mut paged = paged_names(&place, text).await;
                paged.sort_unstable();
                assert_eq!(paged, wanted, "{is_indexed} {text}");
            }
        }
    })
    .await;
}

/// In the order of the numbers.
async fn paged_names(place: &Place<'_>, text: &str) -> Vec<String> {
    let query = Query {
        text: Some(text.to_owned()),
        locations: vec![place.location].into(),
        ..Query::default()
    };
    let sort = Sort { by: SortBy::Number, descending: false };
    let found = place.store.search(&query, sort, None, 10).await.unwrap();
    found.into_iter().map(|found| found.name).collect()
}

#[tokio::test]
async fn a_name_is_found_by_its_parts_until_it_is_another() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let name = |n: u64| format!("d/Picture {n:02}.png");
        let mut files: Vec<_> = (0..40).map(|n| file(&name(n), 100 + n, 1, 7)).collect();
        files.push(file("d/ÄRGER_50%", 200, 2, 3));
        place.scan(&files).await;
        let pictures: Vec<String> = (0..40).map(name).collect();
        let of_each = async |what: &str| {
            assert_eq!(found(&place, "picture").await, pictures, "{what}");
            assert_eq!(found(&place, "ture 1").await, pictures[10..20], "{what}");
            assert_eq!(found(&place, "R_50%").await, ["d/ÄRGER_50%"], "{what}");
            // What stands side by side in the index is no name.
            for none in ["png/Pic", "pngPic", "r_5%", "RGER%"] {
                assert!(found(&place, none).await.is_empty(), "{what} {none}");
            }
        };
        of_each("one by one").await;
        while store.index_names().await.unwrap() {}
        of_each("from the index").await;

        // One is moved, one is renamed, one goes, one comes.
        "e/Picture 03.png".clone_into(&mut files[3].path);
        "d/drawing 04.png".clone_into(&mut files[4].path);
        files[5] = file("d/Picture 99.png", 300, 1, 7);
        let (_, merged) = place.scan(&files).await;
        assert_eq!((merged.moved, merged.added), (2, 4), "{merged:?}");
        for is_indexed in [false, true] {
            if is_indexed {
                while store.index_names().await.unwrap() {}
            }
            assert_eq!(found(&place, "picture 0").await.len(), 8);
            for (part, path) in [
                ("ture 03", "e/Picture 03.png"),
                ("wing 04", "d/drawing 04.png"),
                ("ture 99", "d/Picture 99.png"),
            ] {
                assert_eq!(found(&place, part).await, [path], "{is_indexed}");
            }
            for none in ["ture 04", "ture 05"] {
                assert!(found(&place, none).await.is_empty(), "{is_indexed} {none}");
            }
        }
    })
    .await;
}
