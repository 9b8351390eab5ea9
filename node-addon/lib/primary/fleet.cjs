'use strict';

// Replacing workers that run: reload, rollback, scale, restart, recycle. The engine decides who is replaced by whom and when; here
// workers are forked as it orders, asked to leave, and the program is told.

const { errno: ERRNO } = require('node:os').constants;

const { BYTES, MILLISECONDS, amountOf } = require('../amounts.cjs');

/** What a fork takes from the settings; a reload may give others. */
const OF_FORK = ['exec', 'args', 'execArgv', 'cwd', 'silent', 'stdio', 'uid', 'gid', 'serialization', 'inspectPort', 'windowsHide'];
const FINAL = ['done', 'refused', 'rolled-back', 'superseded'];
const COUNT_MOST = 2 ** 31 - 1;
/** How long a worker has that was asked to leave, until SIGTERM, and until SIGKILL after that; in milliseconds. */
const DEADLINE = 30_000;
const KILL_AFTER = 2000;

function invalid(name, value, must) {
  const received = typeof value === 'string' ? `'${value}'` : String(value);
  return Object.assign(new TypeError(`The property 'options.${name}' must be ${must}. Received ${received}`), { code: 'ERR_INVALID_ARG_VALUE' });
}

function wholeFrom(least, name, value) {
  if (value === undefined) return undefined;
  if (Number.isInteger(value) && value >= least && value <= COUNT_MOST) return value;
  throw invalid(name, value, `an integer from ${least}`);
}

function flag(name, value) {
  if (value === undefined || typeof value === 'boolean') return value;
  throw invalid(name, value, 'a boolean');
}

// A number of `units[0]`, or a text such as '400M'.
function amount(name, value, units, example) {
  if (value === undefined) return undefined;
  if (Number.isFinite(value) && value > 0) return value;
  const told = typeof value === 'string' ? amountOf(value, units) : NaN;
  if (told > 0) return told;
  throw invalid(name, value, `a number greater than 0, or a text such as '${example}'`);
}

/** How to replace, in the engine's words. Milliseconds may be Infinity for the time to become ready. */
function reloadWanted({ parallel, extra, readyTimeout, minReady, busy, allowFewer, rollback }) {
  if (busy !== undefined && !['supersede', 'queue', 'refuse'].includes(busy)) {
    throw invalid('busy', busy, "one of: 'supersede', 'queue', 'refuse'");
  }
  return {
    parallel: wholeFrom(1, 'parallel', parallel),
    extra: wholeFrom(1, 'extra', extra),
    readyTimeout: readyTimeout === Infinity ? 0 : wholeFrom(1, 'readyTimeout', readyTimeout),
    minReady: wholeFrom(0, 'minReady', minReady),
    busy,
    allowFewer: flag('allowFewer', allowFewer),
    noRollback: flag('rollback', rollback) === false,
  };
}

function recycleWanted({ rss, connections, requests, age, jitter, atATime }) {
  return {
    memory: amount('rss', rss, BYTES, '400M'),
    connections: wholeFrom(1, 'connections', connections),
    requests: wholeFrom(1, 'requests', requests),
    age: amount('age', age, MILLISECONDS, '24h'),
    jitter: wholeFrom(0, 'jitter', jitter),
    atATime: wholeFrom(1, 'atATime', atATime),
  };
}

// What the engine refuses, as an error with the name of its errno.
function asked(ask) {
  try {
    return ask();
  } catch (error) {
    const number = Number(/\(errno ([0-9]+)\)$/.exec(error.message)?.[1]);
    const code = Object.keys(ERRNO).find((name) => ERRNO[name] === number);
    throw code ? Object.assign(new Error(error.message.replace(/ \(errno [0-9]+\)$/, '')), { code, errno: -number }) : error;
  }
}

/** By cluster. */
const fleets = new WeakMap();

/**
 * From here on the engine makes workers of this cluster, and replaces those that end. The supervisor is asked, and told:
 *
 *   recipe(slot, generation)             how a worker is made: { settings, env }
 *   born(worker, { id, slot, generation, beside })
 *   notMade({ slot, beside }, error, next)   next: milliseconds until it is tried again
 *   ends(worker, code, signal)           whether another follows it: not sooner than in so many milliseconds; undefined: none
 *   follows(worker, next)                next: in how many; undefined: somebody is on the way already
 *   swapped(worker)                      it has its slot's place
 *   leave(worker, atOnce)                it is to leave. False: it is not the supervisor's
 *
 * Returns { scale(count), stop() }: so many workers, beside those that the program forks itself; nobody is replaced any more.
 */
function supervise(cluster, supervisor) {
  return fleets.get(cluster).supervise(supervisor);
}

class Fleet {
  #cluster;
  #entries;
  #fork;
  #engine;
  #started;
  #supervisor;
  /** By generation: what its workers are made of, beside what was given to the first of their slot. Not of the first generation. */
  #recipes = new Map();
  /** By slot: settings and environment of its first worker. */
  #first = new Map();
  /** By generation: who waits for its end. */
  #waiting = new Map();
  /** The generation in force, and the one before. */
  #inForce = [1, 1];
  /** A worker that was replaced or is not wanted any more, while its end is told. */
  #leaver;

  /**
   * `entries`: by worker, those that have a place. `fork(env, how)` forks one; see forkEnrolled. `engine()`: the engine, if there is one;
   * `begin()` makes it.
   */
  constructor(cluster, { entries, fork, engine, begin }) {
    fleets.set(cluster, this);
    this.#cluster = cluster;
    this.#started = begin;
    this.#entries = entries;
    this.#fork = fork;
    this.#engine = engine;
  }

  #settings() {
    const { settings } = this.#cluster;
    return Object.fromEntries(OF_FORK.filter((name) => Object.hasOwn(settings, name)).map((name) => [name, settings[name]]));
  }

  /** The program has forked a worker itself. */
  forked({ worker }, env) {
    worker.generation = this.#inForce[0];
    this.#first.set(worker.slot, { env, settings: this.#settings() });
  }

  supervise(supervisor) {
    this.#supervisor = supervisor;
    this.#started().replaceEnrolled();
    const isOther = (entry) => !entry.isSupervised;
    return {
      scale: (count) => this.scale(count + [...this.#entries.values()].filter(isOther).length),
      stop: () => {
        this.#engine().replaceNobody();
        this.#engine().takeNothingBack();
      },
    };
  }

  /** A worker's process has ended. */
  end({ id, worker }, code, signal) {
    const least = this.#supervisor?.ends(worker, code, signal);
    // Only after a crash an address is kept for a successor. A code of 0 is none.
    if (least === undefined) this.#engine().ended(id, code === 0);
    else this.#supervisor.follows(worker, this.#engine().followed(id, least) ?? undefined);
  }

  /** A worker's end is about to be told, and was told. */
  ends(entry) {
    if (entry.replaced) this.#leaver = entry;
  }

  ended() {
    this.#leaver = undefined;
  }

  /**
   * Who counts as the worker that is forked in place of one whose end is being told, if that has a successor already, or is to have none:
   * many programs fork whenever a worker ends.
   */
  successor() {
    const leaver = this.#leaver;
    this.#leaver = undefined;
    if (!leaver) return undefined;
    for (const { worker } of this.#entries.values()) if (worker.slot === leaver.worker.slot) return worker;
    return leaver.worker;
  }

  #of(id) {
    for (const entry of this.#entries.values()) if (entry.id === id) return entry;
    return undefined;
  }

  /** Something that the engine has told. */
  hear({ due, swapped, leaving, ready, recycled, reload }) {
    if (due) this.#make();
    if (swapped) this.#supervisor?.swapped(this.#of(swapped)?.worker);
    if (leaving) this.#haveLeave(leaving);
    if (ready) this.#tell('ready', ready);
    if (recycled) this.#tell('recycle', recycled);
    if (reload) this.#reloads(reload);
  }

  #tell(event, { id }) {
    const entry = this.#of(id);
    if (!entry) return;
    entry.worker.emit(event);
    this.#cluster.emit(event, entry.worker);
  }

  #make() {
    const engine = this.#engine();
    for (let due = engine.takeDue(); due; due = engine.takeDue()) this.#makeOne(due);
  }

  #makeOne(due) {
    const failed = (error) => this.#notMade(due, error);
    const lose = (engine, id) => (this.#supervisor ? engine.followed(id, 0) : engine.ended(id, true));
    try {
      const { settings, env } = this.#recipeOf(due);
      const { worker, entry } = this.#fork(env, { enroll: (engine) => engine.enrollDue(due), lose, settings });
      if (!entry) {
        worker.once('error', failed);
        return;
      }
      worker.generation = due.generation;
      entry.isSupervised = this.#supervisor !== undefined;
      const { slot, generation, beside } = due;
      this.#supervisor?.born(worker, { id: entry.id, slot, generation, beside });
    } catch (error) {
      failed(error);
    }
  }

  #recipeOf({ slot, generation }) {
    if (this.#supervisor) return this.#supervisor.recipe(slot, generation);
    const first = this.#first.get(slot) ?? this.#first.values().next().value ?? {};
    const { settings = first.settings, env } = this.#recipes.get(generation) ?? {};
    return { settings, env: env ? { ...first.env, ...env } : first.env };
  }

  #notMade(due, error) {
    const next = this.#engine().dueFailed(due, error.message) ?? undefined;
    if (this.#supervisor) {
      this.#supervisor.notMade(due, error, next);
    } else if (!due.beside) {
      const text = `the worker of slot ${due.slot} could not be replaced and will be tried again: ${error.message}`;
      process.emitWarning(text, { type: 'ClusterWarning', code: 'CLUSTER_RS_ENGINE' });
    }
  }

  #haveLeave({ id, atOnce }) {
    const entry = this.#of(id);
    if (!entry) return;
    const { worker } = entry;
    if (this.#supervisor?.leave(worker, atOnce)) return;
    const kill = (signal) => worker.process.kill(signal);
    entry.replaced = true;
    if (atOnce) {
      kill('SIGTERM');
      return;
    }
    const terminate = setTimeout(kill, DEADLINE, 'SIGTERM').unref();
    const end = setTimeout(kill, DEADLINE + KILL_AFTER, 'SIGKILL').unref();
    worker.process.once('exit', () => {
      clearTimeout(terminate);
      clearTimeout(end);
    });
    if (worker.isConnected()) worker.disconnect();
    else kill('SIGTERM');
  }

  #reloads({ generation, phase, replaced, reason }) {
    if (phase === 'done') this.#inForce = [generation, this.#inForce[0]];
    this.#cluster.emit('reload', { generation, phase, replaced, reason });
    if (!FINAL.includes(phase)) return;
    this.#waiting.get(generation)?.({ generation, outcome: phase, replaced, reason });
    this.#waiting.delete(generation);
    const needed = new Set([...this.#inForce, ...this.#waiting.keys()]);
    for (const { worker } of this.#entries.values()) needed.add(worker.generation);
    for (const known of this.#recipes.keys()) if (!needed.has(known)) this.#recipes.delete(known);
  }

  #running() {
    const engine = this.#engine();
    if (engine) return engine;
    const sentence = 'there are no workers, and so nothing says how they are made; fork some first';
    throw Object.assign(new Error(sentence), { code: 'ENOENT', errno: -ERRNO.ENOENT });
  }

  #begin(generation, recipe) {
    if (recipe) this.#recipes.set(generation, recipe);
    return new Promise((resolve) => {
      this.#waiting.set(generation, resolve);
    });
  }

  /** Replaces all workers by what a fork would make now, with what `options` give of the settings and the environment. */
  async reload(options = {}) {
    const wanted = reloadWanted(options);
    const given = OF_FORK.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]);
    const recipe = { settings: { ...this.#settings(), ...Object.fromEntries(given) }, env: options.env };
    return this.#begin(asked(() => this.#running().reload(wanted)), recipe);
  }

  async rollback(options = {}) {
    const wanted = reloadWanted(options);
    const { generation, like } = asked(() => this.#running().rollback(wanted));
    return this.#begin(generation, this.#recipes.get(like));
  }

  scale(count) {
    const slots = wholeFrom(1, 'count', count);
    if (slots === undefined) throw invalid('count', count, 'an integer from 1');
    asked(() => this.#running().scale(slots));
  }

  restart(entry) {
    asked(() => this.#running().restart(entry.id));
  }

  recycle(options = {}) {
    const wanted = recycleWanted(Object(options));
    asked(() => this.#running().recycle(wanted));
  }

  /** Nobody is replaced any more. */
  cancel() {
    this.#engine()?.cancel();
  }
}

module.exports = { Fleet, supervise };
