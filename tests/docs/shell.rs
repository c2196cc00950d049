//! Finds the commands in shell code, as far as the documents use it: words, quotes, pipes, redirections, substitutions.

/// Returns the words of every command in `code` that runs `program` with arguments.
pub fn invocations(code: &str, program: &str) -> Vec<Vec<String>> {
    let runs = |words: &Vec<String>| words.len() > 1 && words.first().is_some_and(|word| word == program);
    commands(code).into_iter().filter(runs).collect()
}

/// Returns the words of every command, without assignments before it and without redirections.
fn commands(code: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' => word.get_or_insert_default().extend(characters.by_ref().take_while(|c| *c != '\'')),
            '"' => word.get_or_insert_default().extend(characters.by_ref().take_while(|c| *c != '"')),
            '\\' => match characters.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '#' if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            '$' if characters.next_if_eq(&'(').is_some() => end_command(&mut words, &mut word, &mut commands),
            '<' | '>' => {
                // The number of the redirected stream is not an argument.
                word = word.filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
                end_command(&mut words, &mut word, &mut commands);
            }
            '\n' | ';' | '&' | '|' | '(' | ')' => end_command(&mut words, &mut word, &mut commands),
            ' ' | '\t' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    end_command(&mut words, &mut word, &mut commands);
    commands
}

fn end_command(words: &mut Vec<String>, word: &mut Option<String>, commands: &mut Vec<Vec<String>>) {
    words.extend(word.take());
    let all = std::mem::take(words);
    let command: Vec<String> = all.into_iter().skip_while(|word| word.contains('=') || word == "$").collect();
    if !command.is_empty() {
        commands.push(command);
    }
}

#[test]
fn commands_are_found_in_pipes_substitutions_and_redirections() {
    let code = "A=1 authctl login 'a b' --x \\\n  y < secret # authctl no\nh=$(authctl token w) &&\n  printf '%s|' \"$h\" | curl; authctl x 2>&1";
    let found = invocations(code, "authctl");
    assert_eq!(
        found,
        [vec!["authctl", "login", "a b", "--x", "y"], vec!["authctl", "token", "w"], vec!["authctl", "x"]]
    );
}
