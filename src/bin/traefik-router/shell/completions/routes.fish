# Routespecs of the store that the line names.
function __traefik_router_routes
    set -l option
    set -l given
    for word in (commandline -opc)
        if test -n "$option"
            contains -- $option @LIST@; and set -a given $option=$word
            set option
        else if contains -- $word @VALUED@
            set option $word
        else if contains -- (string replace -r '=.*' '' -- $word) @LIST@
            set -a given $word
        end
    end
    traefik-router routes list --json $given 2>/dev/null | string replace -rf '^    "routespec": "(.*)",?$' '$1'
end
complete -c traefik-router -n "__fish_traefik_router_using_subcommand routes; and __fish_seen_subcommand_from @COMMANDS@" -f -a "(__traefik_router_routes)"
