package airis.elasticsearch;

import java.io.Reader;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import org.apache.lucene.analysis.charfilter.HTMLStripCharFilter;
import org.apache.lucene.analysis.charfilter.MappingCharFilter;
import org.apache.lucene.analysis.charfilter.NormalizeCharMap;
import org.apache.lucene.analysis.pattern.PatternReplaceCharFilter;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.index.analysis.CharFilterFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.plugins.AnalysisPlugin;

/** Those of the plugin analysis-common, by their names. */
final class CharFilters {
    private CharFilters() {}

    static Map<String, AnalysisProvider<CharFilterFactory>> all() {
        return Map.of(
            "html_strip", (index, environment, name, settings) -> new Made(name, HTMLStripCharFilter::new),
            // The server makes one of each kind without settings, except of those that need some.
            "mapping", AnalysisPlugin.requiresAnalysisSettings(
                (index, environment, name, settings) -> new Made(name, mapping(settings))
            ),
            "pattern_replace", AnalysisPlugin.requiresAnalysisSettings(
                (index, environment, name, settings) -> new Made(name, patternReplace(settings))
            )
        );
    }

    private record Made(String name, UnaryOperator<Reader> filter) implements CharFilterFactory {
        @Override
        public Reader create(Reader input) {
            return filter.apply(input);
        }
    }

    private static UnaryOperator<Reader> mapping(Settings settings) {
        NormalizeCharMap.Builder map = new NormalizeCharMap.Builder();
        for (String rule : settings.getAsList("mappings")) {
            String[] sides = rule.split("\\s*=>\\s*", 2);
            if (sides.length != 2) {
                throw new IllegalArgumentException("Invalid mapping rule: [" + rule + "]");
            }
            map.add(sides[0].strip(), sides[1].strip());
        }
        NormalizeCharMap built = map.build();
        return input -> new MappingCharFilter(built, input);
    }

    private static UnaryOperator<Reader> patternReplace(Settings settings) {
        Pattern pattern = Pattern.compile(settings.get("pattern"));
        String replacement = settings.get("replacement", "");
        return input -> new PatternReplaceCharFilter(pattern, replacement, input);
    }
}
