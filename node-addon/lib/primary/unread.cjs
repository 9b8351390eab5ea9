'use strict';

// Answers that a worker does not read. The primary keeps each in its memory, so there is a bound.

const { isInternal } = require('../query.cjs');

const ANSWERS = 8192;
const CHARACTERS = 16 << 20;

function lengthOf(value) {
  if (typeof value === 'string') return value.length;
  try {
    return value == null ? 0 : JSON.stringify(value).length;
  } catch {
    return CHARACTERS;
  }
}

/** Calls `exceeded` when a worker leaves too much unread of what Node's code and ours answer to it. */
function boundAnswers(child, exceeded) {
  const { _send: send } = child;
  if (typeof send !== 'function') return;
  let answers = 0;
  let characters = 0;
  child._send = function sendCounted(message, handle, options, callback) {
    // What the program sends is its own matter.
    if (!isInternal(message)) return Reflect.apply(send, this, [message, handle, options, callback]);
    const length = lengthOf(message.key) + lengthOf(message.data);
    answers += 1;
    characters += length;
    const sent = (error) => {
      answers -= 1;
      characters -= length;
      if (typeof callback === 'function') callback(error);
    };
    // Whoever does not ask gets no error: Node would make the worker's end an 'error' of the primary.
    const careful = typeof callback === 'function' ? options : { ...Object(options), swallowErrors: true };
    const outcome = Reflect.apply(send, this, [message, handle, careful, sent]);
    if (answers > ANSWERS || characters > CHARACTERS) process.nextTick(exceeded);
    return outcome;
  };
}

module.exports = { boundAnswers };
