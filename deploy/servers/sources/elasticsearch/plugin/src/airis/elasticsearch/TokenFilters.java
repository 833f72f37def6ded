package airis.elasticsearch;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.lucene.analysis.CharArraySet;
import org.apache.lucene.analysis.LowerCaseFilter;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.cjk.CJKBigramFilter;
import org.apache.lucene.analysis.cjk.CJKWidthFilter;
import org.apache.lucene.analysis.core.DecimalDigitFilter;
import org.apache.lucene.analysis.core.UpperCaseFilter;
import org.apache.lucene.analysis.ko.KoreanNumberFilter;
import org.apache.lucene.analysis.ko.KoreanPartOfSpeechStopFilter;
import org.apache.lucene.analysis.ko.KoreanReadingFormFilter;
import org.apache.lucene.analysis.ko.POS;
import org.apache.lucene.analysis.miscellaneous.ASCIIFoldingFilter;
import org.apache.lucene.analysis.miscellaneous.LengthFilter;
import org.apache.lucene.analysis.miscellaneous.LimitTokenCountFilter;
import org.apache.lucene.analysis.miscellaneous.RemoveDuplicatesTokenFilter;
import org.apache.lucene.analysis.miscellaneous.TrimFilter;
import org.apache.lucene.analysis.miscellaneous.TruncateTokenFilter;
import org.apache.lucene.analysis.miscellaneous.WordDelimiterGraphFilter;
import org.apache.lucene.analysis.miscellaneous.WordDelimiterIterator;
import org.apache.lucene.analysis.ngram.EdgeNGramTokenFilter;
import org.apache.lucene.analysis.ngram.NGramTokenFilter;
import org.apache.lucene.analysis.reverse.ReverseStringFilter;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.index.analysis.NormalizingTokenFilterFactory;
import org.elasticsearch.index.analysis.TokenFilterFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;

/** Those of the plugins analysis-common and analysis-nori, by their names. */
final class TokenFilters {
    private TokenFilters() {}

    static Map<String, AnalysisProvider<TokenFilterFactory>> all() {
        Map<String, AnalysisProvider<TokenFilterFactory>> all = new HashMap<>();
        all.put("lowercase", normalizing(settings -> LowerCaseFilter::new));
        all.put("uppercase", normalizing(settings -> UpperCaseFilter::new));
        all.put("trim", normalizing(settings -> TrimFilter::new));
        all.put("decimal_digit", normalizing(settings -> DecimalDigitFilter::new));
        all.put("cjk_width", normalizing(settings -> CJKWidthFilter::new));
        all.put("asciifolding", normalizing(settings -> {
            boolean keep = settings.getAsBoolean("preserve_original", false);
            return input -> new ASCIIFoldingFilter(input, keep);
        }));
        all.put("cjk_bigram", made(settings -> CJKBigramFilter::new));
        all.put("reverse", made(settings -> ReverseStringFilter::new));
        all.put("remove_duplicates", made(settings -> RemoveDuplicatesTokenFilter::new));
        all.put("word_delimiter_graph", made(settings -> TokenFilters::wordDelimiter));
        all.put("length", made(settings -> {
            int least = settings.getAsInt("min", 0);
            int most = settings.getAsInt("max", Integer.MAX_VALUE);
            return input -> new LengthFilter(input, least, most);
        }));
        all.put("limit", made(settings -> {
            int most = settings.getAsInt("max_token_count", 1);
            return input -> new LimitTokenCountFilter(input, most);
        }));
        all.put("truncate", made(settings -> {
            int length = settings.getAsInt("length", 10);
            return input -> new TruncateTokenFilter(input, length);
        }));
        all.put("ngram", made(settings -> {
            int least = settings.getAsInt("min_gram", 1);
            int most = settings.getAsInt("max_gram", 2);
            boolean keep = settings.getAsBoolean("preserve_original", false);
            return input -> new NGramTokenFilter(input, least, most, keep);
        }));
        all.put("edge_ngram", made(settings -> {
            int least = settings.getAsInt("min_gram", 1);
            int most = settings.getAsInt("max_gram", 2);
            boolean keep = settings.getAsBoolean("preserve_original", false);
            return input -> new EdgeNGramTokenFilter(input, least, most, keep);
        }));
        all.put("nori_part_of_speech", made(TokenFilters::partOfSpeech));
        all.put("nori_readingform", made(settings -> KoreanReadingFormFilter::new));
        all.put("nori_number", made(settings -> KoreanNumberFilter::new));
        return all;
    }

    private interface Maker {
        UnaryOperator<TokenStream> with(Settings settings);
    }

    private static AnalysisProvider<TokenFilterFactory> made(Maker maker) {
        return (index, environment, name, settings) -> new Made(name, maker.with(settings));
    }

    private static AnalysisProvider<TokenFilterFactory> normalizing(Maker maker) {
        return (index, environment, name, settings) -> new Normalizing(name, maker.with(settings));
    }

    private record Made(String name, UnaryOperator<TokenStream> filter) implements TokenFilterFactory {
        @Override
        public TokenStream create(TokenStream input) {
            return filter.apply(input);
        }
    }

    /** May be part of a normalizer, as it keeps each token one token. */
    private record Normalizing(String name, UnaryOperator<TokenStream> filter)
        implements NormalizingTokenFilterFactory {
        @Override
        public TokenStream create(TokenStream input) {
            return filter.apply(input);
        }
    }

    private static TokenStream wordDelimiter(TokenStream input) {
        int parts = WordDelimiterGraphFilter.GENERATE_WORD_PARTS
            | WordDelimiterGraphFilter.GENERATE_NUMBER_PARTS
            | WordDelimiterGraphFilter.SPLIT_ON_CASE_CHANGE
            | WordDelimiterGraphFilter.SPLIT_ON_NUMERICS
            | WordDelimiterGraphFilter.STEM_ENGLISH_POSSESSIVE;
        byte[] table = WordDelimiterIterator.DEFAULT_WORD_DELIM_TABLE;
        return new WordDelimiterGraphFilter(input, true, table, parts, CharArraySet.EMPTY_SET);
    }

    private static UnaryOperator<TokenStream> partOfSpeech(Settings settings) {
        Set<POS.Tag> tags = settings.hasValue("stoptags")
            ? settings.getAsList("stoptags").stream().flatMap(TokenFilters::tags).collect(Collectors.toSet())
            : KoreanPartOfSpeechStopFilter.DEFAULT_STOP_TAGS;
        return input -> new KoreanPartOfSpeechStopFilter(input, tags);
    }

    /** "E" (endings) and "J" (particles) are groups, of which settings may name the whole. */
    private static Stream<POS.Tag> tags(String name) {
        return name.equals("E") || name.equals("J")
            ? Stream.of(POS.Tag.values()).filter(tag -> tag.name().startsWith(name))
            : Stream.of(POS.resolveTag(name));
    }
}
