//! The elements of views, read and written; packed ones are several elements of their buffer each.

use crate::emulator::error::Result;
use crate::emulator::lanes::room;
use crate::emulator::machine::Machine;
use crate::emulator::memory::{Run, View, Words};
use crate::emulator::simd::vectorised;
use crate::emulator::types::Elem;
use crate::emulator::value::{Lane, Value};

/// The elements of a view as a vector.
pub(super) fn read(m: &Machine<'_>, view: &View) -> Value {
    let n = view.volume();
    let words = &m.buffers[view.buffer].words;
    if view.pack.is_some() {
        return from_bits(gather_packed(words, view), view.elem);
    }
    macro_rules! collect {
        ($words:expr, $convert:expr) => {{
            let mut out = room(n);
            view.for_each_run(|run| {
                let part = &$words[run.start..run.start + run.len];
                vectorised(
                    #[inline(always)]
                    || out.extend(part.iter().map($convert)),
                );
            });
            out
        }};
    }
    match (words, view.elem) {
        (Words::W32(w), Elem::F32) => f32::wrap(collect!(w, |&x| f32::from_bits(x))),
        (Words::W16(w), Elem::Bf16) => f32::wrap(collect!(w, |&x| f32::from_bits(u32::from(x) << 16))),
        (Words::W32(w), _) => i32::wrap(collect!(w, |&x| x as i32)),
        (Words::W16(w), _) => i32::wrap(collect!(w, |&x| i32::from(x as i16))),
        (Words::W8(w), _) => i32::wrap(collect!(w, |&x| i32::from(x as i8))),
        (Words::Semaphores(_), _) => unreachable!("verified as data"),
    }
}

/// Bits as lanes of an element type.
fn from_bits(bits: Vec<u32>, elem: Elem) -> Value {
    match elem {
        Elem::F32 => f32::wrap(bits.into_iter().map(f32::from_bits).collect()),
        Elem::Bf16 => f32::wrap(bits.into_iter().map(|x| f32::from_bits(x << 16)).collect()),
        Elem::I16 => i32::wrap(bits.into_iter().map(|x| i32::from(x as u16 as i16)).collect()),
        _ => i32::wrap(bits.into_iter().map(|x| x as i32).collect()),
    }
}

/// Buffer elements under every element of a packed view: low bits first.
fn packed_places(view: &View, mut f: impl FnMut(usize, usize)) {
    let (count, distance) = view.pack.unwrap_or((1, 0));
    let flat = View { pack: None, ..view.clone() };
    flat.for_each_run(|run| {
        for at in run.start..run.start + run.len {
            (0..count).for_each(|part| f(part, at + part * distance));
        }
    });
}

fn gather_packed(words: &Words, view: &View) -> Vec<u32> {
    let mut bits = Vec::with_capacity(view.volume());
    packed_places(view, |part, at| {
        let (x, width) = match words {
            Words::W8(w) => (u32::from(w[at]), 8),
            Words::W16(w) => (u32::from(w[at]), 16),
            Words::W32(w) => (w[at], 32),
            Words::Semaphores(_) => (0, 32),
        };
        match bits.last_mut() {
            Some(last) if part > 0 => *last |= x << (part * width),
            _ => bits.push(x),
        }
    });
    bits
}

fn bits_of(value: &Value, lane: usize, elem: Elem) -> u32 {
    match value {
        Value::Floats(v) => v[lane].to_bits() >> if elem == Elem::Bf16 { 16 } else { 0 },
        Value::Ints(v) => v[lane] as u32,
        _ => unreachable!("verified as numbers"),
    }
}

pub(super) fn write(m: &mut Machine<'_>, view: &View, value: &Value) {
    let words = &mut m.buffers[view.buffer].words;
    if let Some((count, _)) = view.pack {
        let mut element = 0;
        packed_places(view, |part, at| {
            put(words, at, bits_of(value, element, view.elem) >> (part * 32 / count));
            element += usize::from(part + 1 == count);
        });
        return;
    }
    let mut from = 0;
    macro_rules! copy {
        ($words:expr, $lanes:expr, $convert:expr) => {{
            let words = $words.make_mut();
            view.for_each_run(|run| {
                let (to, lanes) = (&mut words[run.start..run.start + run.len], &$lanes[from..from + run.len]);
                vectorised(
                    #[inline(always)]
                    || to.iter_mut().zip(lanes).for_each(|(w, &x)| *w = $convert(x)),
                );
                from += run.len;
            })
        }};
    }
    match (words, value) {
        (Words::W32(w), Value::Floats(v)) => copy!(w, v, f32::to_bits),
        (Words::W16(w), Value::Floats(v)) => copy!(w, v, |x: f32| (x.to_bits() >> 16) as u16),
        (Words::W32(w), Value::Ints(v)) => copy!(w, v, |x: i32| x as u32),
        (Words::W16(w), Value::Ints(v)) => copy!(w, v, |x: i32| x as u16),
        (Words::W8(w), Value::Ints(v)) => copy!(w, v, |x: i32| x as u8),
        _ => unreachable!("verified as data"),
    }
}

fn put(words: &mut Words, at: usize, bits: u32) {
    match words {
        Words::W8(w) => w.make_mut()[at] = bits as u8,
        Words::W16(w) => w.make_mut()[at] = bits as u16,
        Words::W32(w) => w.make_mut()[at] = bits,
        Words::Semaphores(_) => {}
    }
}

/// Stores the lanes that the mask lets through; the others are not touched.
pub(super) fn write_masked(m: &mut Machine<'_>, view: &View, value: &Value, mask: &[bool]) -> Result<()> {
    let mut places = Vec::new();
    let mut lane = 0;
    packed_places(view, |part, at| {
        lane += usize::from(part == 0);
        if mask[lane - 1] {
            places.push((lane - 1, part, at));
        }
    });
    let mut runs: Vec<Run> = places.iter().map(|&(_, _, start)| Run { start, len: 1 }).collect();
    runs.sort_unstable_by_key(|r| r.start);
    if m.dma.touches(view.buffer) {
        m.race(view.buffer, &runs, true, m.site)?;
    }
    let buffer = &mut m.buffers[view.buffer];
    runs.into_iter().for_each(|run| buffer.mark_written(run));
    let count = view.pack.map_or(1, |p| p.0);
    for (lane, part, at) in places {
        put(&mut buffer.words, at, bits_of(value, lane, view.elem) >> (part * 32 / count));
    }
    Ok(())
}
