'use strict';

// Options of Node as NODE_OPTIONS has them: words between spaces. Within double quotes a space is no end, and a backslash escapes.

/** The words with their places in the text: { text, start, end }. Undefined if a quote is not closed. */
function split(options) {
  const found = [];
  let word = null;
  let quoted = false;
  for (let i = 0; i < options.length; i++) {
    const start = i;
    let c = options[i];
    if (c === ' ' && !quoted) {
      word = null;
      continue;
    }
    if (word === null) found.push(word = { text: '', start, end: i });
    if (c === '"') {
      quoted = !quoted;
      c = '';
    } else if (c === '\\' && quoted) {
      c = options[++i] ?? '';
    }
    word.text += c;
    word.end = i + 1;
  }
  return quoted ? undefined : found;
}

function quote(word) {
  return `"${word.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

module.exports = { quote, split };
