-- Each two neighbouring characters beyond ASCII, so that a Korean word is counted without reading its lines. Lines that
-- are stored get it in the background.
ALTER TABLE airis.logs ADD INDEX IF NOT EXISTS message_pairs if(isValidASCII(message), '', replaceRegexpAll(lowerUTF8(message), '[[:ascii:]]+', ' ')) TYPE text(tokenizer = ngrams(2));
ALTER TABLE airis.logs MATERIALIZE INDEX message_pairs;
