'use strict';

// A worker's output, line by line behind a prefix.

const NEWLINE = 10;
/** A longer line is passed on in pieces of this size: a worker that never ends its line cannot fill our memory. */
const LONGEST = 1024 * 1024;
const COLOURS = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

function prefixOf(slot, slots, coloured) {
  const text = `[${String(slot).padStart(String(slots - 1).length)}]`;
  return Buffer.from(coloured ? `\x1b[${COLOURS[slot % COLOURS.length]}m${text}\x1b[0m ` : `${text} `);
}

/** Cuts chunks into lines; what has no end yet waits for it. */
class Splitter {
  #prefix;
  #rest = [];
  #length = 0;

  constructor(prefix) {
    this.#prefix = prefix;
  }

  /** The whole lines that this chunk completes, each behind the prefix; null if there are none. */
  push(chunk) {
    const out = [];
    let from = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, from);
      if (end === -1) break;
      this.#take(out, chunk.subarray(from, end + 1));
      from = end + 1;
    }
    if (from < chunk.length) {
      // A copy, because a piece of a chunk would keep the whole of it.
      this.#rest.push(Buffer.from(chunk.subarray(from)));
      this.#length += chunk.length - from;
      if (this.#length >= LONGEST) this.#take(out, Buffer.from('\n'));
    }
    return out.length === 0 ? null : Buffer.concat(out);
  }

  /** The last line, if its newline never came. */
  end() {
    if (this.#length === 0) return null;
    const out = [];
    this.#take(out, Buffer.from('\n'));
    return Buffer.concat(out);
  }

  #take(out, last) {
    out.push(this.#prefix, ...this.#rest, last);
    this.#rest = [];
    this.#length = 0;
  }
}

/** Passes `source` on to `sink`, no faster than that takes it. */
class Pump {
  #source;
  #sink;
  #splitter;
  #paused = false;
  #reads = 0;

  constructor(source, sink, prefix) {
    this.#source = source;
    this.#sink = sink;
    this.#splitter = new Splitter(prefix);
    this.closed = new Promise((resolve) => source.once('close', resolve));
    source.on('data', (chunk) => this.#chunk(chunk));
    source.on('error', () => {});
    source.on('close', () => this.#write(this.#splitter.end()));
  }

  #chunk(chunk) {
    this.#reads += 1;
    this.#write(this.#splitter.push(chunk));
  }

  #write(lines) {
    if (lines === null || this.#sink.write(lines)) return;
    this.#source.pause();
    if (this.#paused) return;
    this.#paused = true;
    this.#sink.whenFree(() => {
      this.#paused = false;
      this.#source.resume();
    });
  }

  /**
   * Resolves once all output of the dead worker has been passed on. A process that it left behind may hold the pipe open
   * for ever, so a pipe on which nothing arrives for a while counts as ended.
   */
  async finished(patience = 250) {
    let done = false;
    this.closed.then(() => { done = true; });
    for (let seen = -1; !done && (this.#paused || seen !== this.#reads);) {
      seen = this.#reads;
      await Promise.race([this.closed, new Promise((resolve) => setTimeout(resolve, patience))]);
      // Timers run before reads in a turn of the loop, so a late turn has not read yet.
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (!done) this.#write(this.#splitter.end());
  }
}

module.exports = { Pump, Splitter, prefixOf, LONGEST };
