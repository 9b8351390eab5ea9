'use strict';

// In the worker. A script that handles the signal of a stop itself ends as it would without a cluster: it gets that signal, once,
// and nothing of its own is closed for it. Where the whole group was signalled it has the signal already, or gets it any moment now.

const environment = require('../environment.cjs');
const { OWN_END } = require('../query.cjs');
const { SIGNALS, SPREAD, ask, isHandled, isHeld, keep, letGo } = require('./hold-signals.cjs');
const { afterListens, endListens, watchListens } = require('./listens.cjs');
const { closeWebSockets, watchWebSockets } = require('./web-sockets.cjs');

/**
 * The primary's word for a stop: { signals, at, isForAll, again, listens }. The script gets the first of `signals` that it handles.
 * A wrapper such as npm, whose child `listens`, goes when that has gone; see behind-wrapper.cjs.
 */
const STOP = 'NODE_CLUSTER_RS_STOP';
/**
 * The worker's answer: { signal }, the one that the script ends with; without one the worker finishes its connections. { isPassedOn }:
 * a wrapper's.
 */
const OWN = 'NODE_CLUSTER_RS_OWN';
/** The worker's word that its script gets a signal. If it ends of that, the primary may be about to get the same. */
const HAD = 'NODE_CLUSTER_RS_HAD';

/** A signal that came so long before the stop, in milliseconds, was the same one. */
const SAME = 1000;

/** Milliseconds on a clock that all processes share. */
function now() {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/** Keeps in mind which signals the script got that no stop has accounted for. */
class Deliveries {
  #tell;
  #times = new Map();
  #raised = new Set();

  /** `tell` is called right before the script gets one. */
  constructor(tell) {
    this.#tell = tell;
    const deliveries = this;
    const { emit } = process;
    // A listener would be seen: some programs count those of a signal.
    Object.defineProperty(process, 'emit', {
      configurable: true,
      writable: true,
      value: function emitNoted(event, ...args) {
        const pass = () => Reflect.apply(emit, this, [event, ...args]);
        if (!SIGNALS.includes(event)) return pass();
        // Hooks of signal-exit would end the process.
        if (isHeld(event) && keep(event)) return true;
        const deliver = () => deliveries.#deliver(event, pass);
        return (isHandled(event) && afterListens(deliver)) || deliver();
      },
    });
  }

  #deliver(signal, pass) {
    const isRaised = this.#raised.delete(signal);
    if (isHandled(signal)) letGo(signal);
    if (isRaised || !isHandled(signal)) return pass();
    const times = { from: now(), to: Infinity };
    this.#times.set(signal, times);
    this.#tell();
    try {
      return pass();
    } finally {
      times.to = now();
    }
  }

  /** Whether the script has had the signal of a stop that the primary was asked for at that time. */
  has(signal, at) {
    const times = this.#times.get(signal);
    return times !== undefined && (now() - times.to < SAME || Math.abs(times.from - at) < SAME);
  }

  /** Accounts for it. */
  claim(signal) {
    this.#times.delete(signal);
  }

  /** Gives this process the signal. */
  raise(signal) {
    if (isHandled(signal)) this.#raised.add(signal);
    else letGo(signal);
    process.kill(process.pid, signal);
  }
}

function nothing() {}

function answerStops() {
  watchWebSockets();
  watchListens();
  const { send } = process;
  const tell = (message) => process.connected && Reflect.apply(send, process, [message, undefined, undefined, nothing]);
  const deliveries = new Deliveries(() => tell({ cmd: HAD }));
  let isOwn = false;
  let disconnected = nothing;

  function stop({ signals, at, isForAll, again, listens }) {
    ask();
    // A wrapper has left the words about its place where they are.
    if (listens && !again && environment.isGiven()) {
      isOwn = true;
      tell({ cmd: OWN, isPassedOn: true });
      return;
    }
    const signal = signals.find((one) => deliveries.has(one, at)) ?? signals.find(isHandled) ?? (again ? signals[0] : undefined);
    tell({ cmd: OWN, signal });
    if (signal === undefined) {
      closeWebSockets();
      return;
    }
    isOwn = true;
    endListens();
    const give = () => {
      if (deliveries.has(signal, at)) deliveries.claim(signal);
      else deliveries.raise(signal);
    };
    if (deliveries.has(signal, at)) give();
    else if (isForAll) setTimeout(give, SPREAD);
    else if (again) setImmediate(give);
    else giveBehindDisconnect(give);
  }

  // Right behind the stop comes word that this worker has no turns any more. Then its idle connections can go to other workers, before
  // the script closes them.
  function giveBehindDisconnect(give) {
    disconnected = () => {
      clearTimeout(timer);
      disconnected = nothing;
      setImmediate(give);
    };
    const timer = setTimeout(() => disconnected(), SPREAD);
  }

  // Before those of worker/patch.cjs.
  process.prependListener('internalMessage', (message) => {
    if (message?.cmd === STOP) stop(message);
    else if (isOwn && message?.cmd === 'NODE_CLUSTER' && message.act === 'disconnect') {
      message.act = OWN_END;
      disconnected();
    }
  });
}

module.exports = { Deliveries, HAD, OWN, STOP, answerStops, now };
