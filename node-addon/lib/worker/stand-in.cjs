'use strict';

const LONGEST = 2 ** 31 - 1;

function nothing() {}

/** Node's stand-in for a listening socket, as its own workers have it. */
function standIn(name) {
  let timer = null;
  const handle = {
    listen: () => 0,
    ref() {
      timer ??= setInterval(nothing, LONGEST);
    },
    unref() {
      clearInterval(timer);
      timer = null;
    },
    close: () => handle.unref(),
  };
  if (name) {
    handle.getsockname = (out) => {
      Object.assign(out, name);
      return 0;
    };
  }
  handle.ref();
  return handle;
}

module.exports = { standIn };
