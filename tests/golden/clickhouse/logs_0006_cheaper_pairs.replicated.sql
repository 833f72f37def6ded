-- The same pairs of neighbours, told from ASCII without a regular expression: an index with another expression needs
-- another name. Lines that are stored get it in the background; until then they are read.
ALTER TABLE airis.logs_local DROP INDEX IF EXISTS message_pairs;

ALTER TABLE airis.logs_local ADD INDEX IF NOT EXISTS message_neighbours if(isValidASCII(message), '', translate(lowerUTF8(message), '!"#$%&\'()*+,-./0123456789:;<=>?@[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~', '                                                                    ')) TYPE text(tokenizer = ngrams(2));

ALTER TABLE airis.logs_local MATERIALIZE INDEX message_neighbours SETTINGS mutations_sync = 0;
