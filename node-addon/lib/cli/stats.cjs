'use strict';

// `--stats`: a table that is redrawn on a terminal, a line at each interval elsewhere.

const ON_TERMINAL = 1000;
const ELSEWHERE = 10_000;

class Stats {
  #cluster;
  #supervisor;
  #output;
  #timer;
  #told = new Set();

  constructor({ cluster, supervisor, output, interval }) {
    this.#cluster = cluster;
    this.#supervisor = supervisor;
    this.#output = output;
    const terminal = output.out.terminal;
    const period = interval === true ? terminal ? ON_TERMINAL : ELSEWHERE : interval;
    this.#timer = setInterval(() => {
      this.#tellNotices();
      if (terminal) output.out.show(this.table());
      else output.say(this.line());
    }, period);
  }

  end() {
    clearInterval(this.#timer);
    if (this.#output.out.terminal) this.#output.out.show([]);
  }

  /** What the engine did otherwise than could be expected, each once. */
  #tellNotices() {
    for (const notice of this.#cluster.stats().notices) {
      if (this.#told.has(notice)) continue;
      this.#told.add(notice);
      this.#output.say(`stats: ${notice}`);
    }
  }

  /** Each slot beside what the engine counts for its worker. */
  #look() {
    const { workers, addresses } = this.#cluster.stats();
    const counted = new Map(workers.map((worker) => [worker.pid, worker]));
    const rows = this.#supervisor.slots.all.map((slot) => {
      const life = slot.life;
      const { delivered = '-', waiting = '-' } = counted.get(life?.pid) ?? {};
      return {
        slot: slot.index, pid: life?.pid ?? '-', state: stateOf(slot), up: life === null ? '-' : age(life.age),
        restarts: slot.restarts, delivered, waiting,
      };
    });
    return { rows, addresses };
  }

  table() {
    const { rows, addresses } = this.#look();
    return [...columns(rows), ...columns(addresses)];
  }

  line() {
    const { rows, addresses } = this.#look();
    const workers = rows.map(({ slot, pid, state, delivered, waiting }) => `worker ${slot} pid ${pid} ${state} ` +
      `delivered ${delivered} waiting ${waiting}`).join(', ');
    const places = addresses.map(({ address, mechanism, policy, accepted, reclaimed, lost }) =>
      `; ${address} ${mechanism} ${policy} accepted ${accepted} reclaimed ${reclaimed} lost ${lost}`).join('');
    return `stats: ${workers}${places}`;
  }
}

function stateOf({ life, next, final }) {
  if (final !== null) return 'finished';
  if (life === null) return next === null ? 'waiting' : 'starting';
  return life.listens ? 'listening' : life.worker?.state ?? 'starting';
}

function age(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s}s`;
  return s < 3600 ? `${Math.floor(s / 60)}m${s % 60}s` : `${Math.floor(s / 3600)}h${Math.floor(s % 3600 / 60)}m`;
}

/** Objects as aligned lines below their keys. */
function columns(rows) {
  if (rows.length === 0) return [];
  const keys = Object.keys(rows[0]);
  const cells = [keys, ...rows.map((row) => keys.map((key) => String(row[key])))];
  const widths = keys.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  return cells.map((line) => line.map((cell, i) => cell.padEnd(widths[i])).join('  ').trimEnd());
}

module.exports = { Stats, columns, age };
