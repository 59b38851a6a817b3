import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

final class Driver {
    public static void main(String[] words) throws Exception {
        var source = new TokenSource();
        var threads = Executors.newCachedThreadPool();
        var input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        for (String line : (Iterable<String>) new BufferedReader(input).lines()::iterator) {
            var answers = new ArrayList<Future<String>>();
            for (String ctx : line.split("\t", -1)) {
                answers.add(threads.submit(() -> {
                    try {
                        return source.token(ctx);
                    } catch (CompletionException error) {
                        return "error: " + error;
                    }
                }));
            }
            var texts = new ArrayList<String>();
            for (var answer : answers) texts.add(answer.get().replaceAll("\\s", " "));
            System.out.println(String.join("\t", texts));
        }
        threads.shutdown();
    }
}
