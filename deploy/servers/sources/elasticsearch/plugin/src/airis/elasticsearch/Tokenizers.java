package airis.elasticsearch;

import java.io.IOException;
import java.io.StringReader;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import org.apache.lucene.analysis.Tokenizer;
import org.apache.lucene.analysis.classic.ClassicTokenizer;
import org.apache.lucene.analysis.core.KeywordTokenizer;
import org.apache.lucene.analysis.core.LetterTokenizer;
import org.apache.lucene.analysis.core.WhitespaceTokenizer;
import org.apache.lucene.analysis.email.UAX29URLEmailTokenizer;
import org.apache.lucene.analysis.ko.KoreanTokenizer;
import org.apache.lucene.analysis.ko.KoreanTokenizer.DecompoundMode;
import org.apache.lucene.analysis.ko.dict.UserDictionary;
import org.apache.lucene.analysis.ngram.EdgeNGramTokenizer;
import org.apache.lucene.analysis.ngram.NGramTokenizer;
import org.apache.lucene.analysis.path.PathHierarchyTokenizer;
import org.apache.lucene.analysis.pattern.PatternTokenizer;
import org.apache.lucene.util.AttributeFactory;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.index.analysis.TokenizerFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;

/** Those of the plugins analysis-common and analysis-nori, by their names. */
final class Tokenizers {
    private Tokenizers() {}

    static Map<String, AnalysisProvider<TokenizerFactory>> all() {
        return Map.of(
            "keyword", made(settings -> KeywordTokenizer::new),
            "whitespace", made(settings -> WhitespaceTokenizer::new),
            "letter", made(settings -> LetterTokenizer::new),
            "classic", made(settings -> ClassicTokenizer::new),
            "uax_url_email", made(settings -> UAX29URLEmailTokenizer::new),
            "path_hierarchy", made(Tokenizers::pathHierarchy),
            "pattern", made(Tokenizers::pattern),
            "ngram", made(settings -> {
                int least = settings.getAsInt("min_gram", 1);
                int most = settings.getAsInt("max_gram", 2);
                return () -> new NGramTokenizer(least, most);
            }),
            "edge_ngram", made(settings -> {
                int least = settings.getAsInt("min_gram", 1);
                int most = settings.getAsInt("max_gram", 2);
                return () -> new EdgeNGramTokenizer(least, most);
            }),
            "nori_tokenizer", made(Tokenizers::nori)
        );
    }

    private interface Maker {
        Supplier<Tokenizer> with(Settings settings) throws IOException;
    }

    private static AnalysisProvider<TokenizerFactory> made(Maker maker) {
        return (index, environment, name, settings) -> TokenizerFactory.newFactory(name, maker.with(settings));
    }

    private static Supplier<Tokenizer> pathHierarchy(Settings settings) {
        char delimiter = settings.get("delimiter", "/").charAt(0);
        char replacement = settings.get("replacement", String.valueOf(delimiter)).charAt(0);
        int skip = settings.getAsInt("skip", 0);
        return () -> new PathHierarchyTokenizer(delimiter, replacement, skip);
    }

    private static Supplier<Tokenizer> pattern(Settings settings) {
        Pattern pattern = Pattern.compile(settings.get("pattern", "\\W+"));
        int group = settings.getAsInt("group", -1);
        return () -> new PatternTokenizer(pattern, group);
    }

    private static Supplier<Tokenizer> nori(Settings settings) throws IOException {
        DecompoundMode mode = DecompoundMode.valueOf(
            settings.get("decompound_mode", "discard").toUpperCase(Locale.ROOT)
        );
        boolean discardPunctuation = settings.getAsBoolean("discard_punctuation", true);
        List<String> rules = settings.getAsList("user_dictionary_rules", List.of());
        UserDictionary dictionary = rules.isEmpty()
            ? null
            : UserDictionary.open(new StringReader(String.join("\n", rules)));
        AttributeFactory attributes = AttributeFactory.DEFAULT_ATTRIBUTE_FACTORY;
        return () -> new KoreanTokenizer(attributes, dictionary, mode, false, discardPunctuation);
    }
}
